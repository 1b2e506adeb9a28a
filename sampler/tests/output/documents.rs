//! The JSON documents, held against their schemas.
//!
//! The schemas allow more fields, for programs that read what a later version writes. The tests do not: a
//! field that is rendered and not described fails.

use hvsampler::{
    cli::Format,
    collect::{
        attached::FoundDevices,
        platform::GuestIdentity,
        procfs::{GuestProcess, Scan},
    },
    command::{check, list},
    export::json,
    kernel::check::CheckItem,
    model::{ATTACHED_KINDS, Attached, AttachedKind, Fact, UNSEEN, Unseen},
};
use jsonschema::Validator;
use proptest::{collection, option, prelude::*};
use serde_json::Value;

use super::arbitrary;

const LIST: &str = include_str!("../../schema/list-1.schema.json");
const CHECK: &str = include_str!("../../schema/check-1.schema.json");
pub(crate) const STATUS: &str = include_str!("../../schema/status-1.schema.json");

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The schema with every object closed.
pub(crate) fn strict(mut schema: Value) -> Validator {
    fn close(value: &mut Value) {
        let Value::Object(object) = value else { return };
        if object.contains_key("properties") {
            object.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
        }
        object.values_mut().for_each(close);
    }
    close(&mut schema);
    jsonschema::draft202012::new(&schema).unwrap()
}

#[track_caller]
pub(crate) fn assert_valid(validator: &Validator, document: &Value) {
    let errors: Vec<_> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

#[test]
fn schemas_are_schemas() {
    for schema in [json::schema(), parse(LIST), parse(CHECK), parse(STATUS)] {
        jsonschema::draft202012::meta::validate(&schema).unwrap();
    }
}

fn identity() -> impl Strategy<Value = Result<GuestIdentity, String>> {
    let text = || option::of(arbitrary::text());
    let known = (text(), text(), text()).prop_map(move |(name, uuid, project)| {
        GuestIdentity::of("qemu", "program name")
            .with(Fact::Name, name, "command line, -name")
            .with(Fact::Uuid, uuid, "command line, -uuid")
            .with(Fact::Project, project, "a file")
    });
    prop_oneof![known.prop_map(Ok), arbitrary::text().prop_map(Err)]
}

prop_compose! {
    fn device()(
        kind in 0..3_u8,
        path in arbitrary::text(),
        seen_at in collection::vec(arbitrary::text(), 0..3),
        unseen in option::of(0..4_u8),
    ) -> Attached {
        let kind = match kind {
            0 => AttachedKind::Disk,
            1 => AttachedKind::Network,
            _ => AttachedKind::Passthrough,
        };
        let unseen = unseen.map(|why| match why {
            0 => Unseen::NoGroup,
            1 => Unseen::VhostUser,
            2 => Unseen::NetworkFiles,
            _ => Unseen::Unknown,
        });
        Attached { kind, path, seen_at, unseen }
    }
}

fn devices() -> impl Strategy<Value = Result<FoundDevices, String>> {
    let found = (collection::vec(device(), 0..4), 0..2_u64);
    prop_oneof![
        found.prop_map(|(all, left_out)| Ok(FoundDevices { all, left_out, is_partial: false })),
        arbitrary::text().prop_map(Err)
    ]
}

/// The schema of a list has values of its own writing.
#[test]
fn why_a_device_is_not_seen_is_described() {
    let schema = parse(LIST);
    let properties = &schema["$defs"]["device"]["properties"];
    for (property, labels) in [("kind", ATTACHED_KINDS), ("unseen", UNSEEN)] {
        let keys: Vec<_> = labels.iter().map(|label| label.key).collect();
        assert_eq!(properties[property]["enum"], serde_json::json!(keys), "{property}");
    }
}

prop_compose! {
    fn listing()(
        host in arbitrary::host(),
        guests in collection::vec(
            (any::<u32>(), any::<u64>(), collection::vec(any::<u32>(), 0..5), identity(), devices()),
            0..4,
        ),
        [processes, denied, vanished, truncated, failed] in any::<[u64; 5]>(),
    ) -> list::Listing {
        let guests = guests.into_iter().map(|(pid, start_boottime_ns, vcpu_ids, identity, devices)| {
            let process = GuestProcess { pid, start_boottime_ns, vcpu_ids };
            list::Listed { process, identity, cut: 0, devices }
        });
        let scan = Scan { guests: Vec::new(), processes, denied, vanished, truncated, failed };
        list::Listing { host, guests: guests.collect(), scan }
    }
}

prop_compose! {
    fn report()(
        host in arbitrary::host(),
        rows in collection::vec((0..3_u8, arbitrary::text(), arbitrary::text()), 0..4),
    ) -> check::Report {
        let items = rows.into_iter().map(|(status, detail, fix)| match status {
            0 => CheckItem::ok("a check", detail),
            1 => CheckItem::warn("a check", detail, fix),
            _ => CheckItem::fail("a check", detail, fix),
        });
        check::Report { host, items: items.collect() }
    }
}

#[track_caller]
pub(crate) fn assert_lines_are_plain(text: &str) {
    assert!(text.ends_with('\n'));
    assert!(text.lines().all(|line| line.chars().all(hvsampler::export::terminal::is_plain)), "{text:?}");
}

#[test]
fn any_list_is_described_and_safe() {
    let validator = strict(parse(LIST));
    proptest!(|(listing in listing())| {
        assert_valid(&validator, &parse(&listing.render(Format::Json).unwrap()));
        assert_lines_are_plain(&listing.render(Format::Json).unwrap());
        assert_lines_are_plain(&listing.render(Format::Text).unwrap());
    });
}

#[test]
fn any_report_is_described_and_safe() {
    let validator = strict(parse(CHECK));
    proptest!(|(report in report())| {
        assert_valid(&validator, &parse(&report.render(Format::Json).unwrap()));
        assert_lines_are_plain(&report.render(Format::Json).unwrap());
        assert_lines_are_plain(&report.render(Format::Text).unwrap());
    });
}
