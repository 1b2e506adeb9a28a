//! Golden texts in `tests/golden/`; `HVS_BLESS=1` rewrites them.

use std::{env, fs, path::Path};

/// Compares a text with a file of the crate, or writes it there when `HVS_BLESS` is 1.
#[track_caller]
pub(crate) fn assert_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("HVS_BLESS").is_some_and(|bless| bless == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; HVS_BLESS=1 writes it", path.display()));
    assert!(
        golden == text,
        "{} is not what is rendered now; HVS_BLESS=1 rewrites it.\n--- golden\n{golden}\n--- now\n{text}",
        path.display()
    );
}
