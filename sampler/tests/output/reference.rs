//! The documents that are written from the catalog.

use hvsampler::export::reference;

use crate::golden::assert_file;

#[test]
fn the_reference_page_is_the_catalog() {
    assert_file("../docs/metrics.md", &reference::markdown());
}

#[test]
fn the_registry_is_the_catalog() {
    assert_file("../docs/registry.yaml", &reference::registry());
}
