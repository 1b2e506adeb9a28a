//! QEMU, started by hand, by libvirt, by Proxmox or by anything else: what its command line says.
//!
//! The rules are QEMU's own, tried on version 7.2 by asking it what it took its name and UUID to be: options
//! begin with one hyphen or two; `-name` may be repeated and each key keeps its last value; `-uuid` and
//! `-smbios type=1,uuid=` set the same UUID and the last of them stays.

use super::{GuestIdentity, Look, ProcessFacts, program_is};
use crate::model::Fact;

/// Options whose value is free text and may begin with a hyphen: the element after them is no option,
/// whatever it looks like. Without this a guest's kernel command line could name it.
const FREE_TEXT: &[&[u8]] = &[b"append", b"bios", b"dtb", b"initrd", b"kernel", b"name", b"smbios", b"uuid"];

/// What the options of a command line say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `-name`.
    pub(super) name: Option<String>,
    /// `-uuid`, or `-smbios`; with the option it is from.
    pub(super) uuid: Option<(String, &'static str)>,
}

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = is_program_of(facts)?;
    Some(Options::parse(&facts.args).identity(GuestIdentity::of("qemu", from)))
}

/// By what the process is known to be QEMU, where it is.
pub(super) fn is_program_of(facts: &ProcessFacts) -> Option<&'static str> {
    program_is(facts, is_qemu)
}

/// `qemu-system-*`; `qemu-kvm` on Red Hat's systems; `kvm` on Debian's and Proxmox's.
fn is_qemu(program: &[u8]) -> bool {
    program.starts_with(b"qemu") || program == b"kvm"
}

impl Options {
    /// An identity with what the options say and nobody has said better.
    pub(super) fn identity(self, identity: GuestIdentity) -> GuestIdentity {
        let (uuid, uuid_from) = self.uuid.unzip();
        identity.or(Fact::Name, self.name, "command line, -name").or(
            Fact::Uuid,
            uuid,
            uuid_from.unwrap_or_default(),
        )
    }

    /// Reads the options of a command line; its first element is the program.
    pub(super) fn parse(args: &[Vec<u8>]) -> Self {
        let mut options = Self::default();
        let mut args = args.iter().skip(1);
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix(b"--").or_else(|| arg.strip_prefix(b"-")) else { continue };
            if FREE_TEXT.contains(&option)
                && let Some(value) = args.next()
            {
                options.take(option, value);
            }
        }
        options
    }

    fn take(&mut self, option: &[u8], value: &[u8]) {
        match option {
            b"name" => {
                if let Some(guest) = last_value(value, Some(b"guest"), b"guest") {
                    self.name = super::text(&guest);
                }
            }
            b"uuid" => {
                if let Some(uuid) = super::uuid(value) {
                    self.uuid = Some((uuid, "command line, -uuid"));
                }
            }
            b"smbios" if last_value(value, None, b"type").as_deref() == Some(b"1") => {
                let uuid = last_value(value, None, b"uuid");
                if let Some(uuid) = uuid.and_then(|uuid| super::uuid(&uuid)) {
                    self.uuid = Some((uuid, "command line, -smbios type=1"));
                }
            }
            _ => {}
        }
    }
}

/// The last value of a key in `key=value,key=value`. In a value `,,` stands for a comma. A first element
/// without `=` is the value of the implied key.
fn last_value(text: &[u8], implied: Option<&[u8]>, wanted: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = text;
    let mut implied = implied;
    while !rest.is_empty() {
        let key_end = rest.iter().position(|byte| matches!(byte, b'=' | b',')).unwrap_or(rest.len());
        let has_value = rest.get(key_end) == Some(&b'=');
        let key = match (has_value, implied.take()) {
            (true, _) => Some(&rest[..key_end]),
            (false, implied) => implied,
        };
        let value_start = if has_value { key_end + 1 } else { 0 };
        let (value, after) = split_value(&rest[value_start..]);
        if key == Some(wanted) {
            found = Some(value);
        }
        rest = after;
    }
    found
}

/// Takes a value up to the first comma that is not doubled; returns it and what follows that comma.
fn split_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b',' {
            if text.get(at + 1) != Some(&b',') {
                return (value, &text[at + 1..]);
            }
            at += 1;
        }
        value.push(byte);
        at += 1;
    }
    (value, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaa-1111-1111-1111-111111111111";
    const B: &str = "bbbbbbbb-1111-1111-1111-111111111111";

    fn parse(args: &[&str]) -> Options {
        let args: Vec<_> = ["qemu"].iter().chain(args).map(|arg| arg.as_bytes().to_vec()).collect();
        Options::parse(&args)
    }

    #[track_caller]
    fn assert_name(args: &[&str], name: Option<&str>) {
        assert_eq!(parse(args).name.as_deref(), name, "{args:?}");
    }

    #[test]
    fn names_are_what_qemu_takes_them_for() {
        assert_name(&["-name", "web"], Some("web"));
        assert_name(&["--name", "web"], Some("web"));
        assert_name(&["-name", "a,,b"], Some("a,b"));
        assert_name(&["-name", "guest=we\"ird,,name,debug-threads=on"], Some("we\"ird,name"));
        assert_name(&["-name", "debug-threads=on,guest=b"], Some("b"));
        assert_name(&["-name", "a,process=p"], Some("a"));
        assert_name(&["-name", "a,guest=c"], Some("c"));
        assert_name(&["-name", "guest=x,guest=y"], Some("y"));
        assert_name(&["-name", "guest=a=b"], Some("a=b"));
        assert_name(&["-name", "foo,debug-threads"], Some("foo"));
        assert_name(&["-name", "a", "-name", "b"], Some("b"));
        assert_name(&["-name", "a", "-name", "debug-threads=on"], Some("a"));
        assert_name(&["-name", "line\nbreak"], Some("line\nbreak"));
    }

    #[test]
    fn what_names_nothing_leaves_no_name() {
        assert_name(&[], None);
        assert_name(&["-name"], None);
        assert_name(&["-name", ""], None);
        assert_name(&["-name", "guest="], None);
        assert_name(&["-name", "debug-threads=on"], None);
        assert_name(&["-name=foo"], None);
        assert_name(&["name", "foo"], None);
    }

    #[test]
    fn a_value_is_no_option() {
        assert_name(&["-append", "-name", "evil", "-name", "good"], Some("good"));
        assert_name(&["-append", "-name", "evil"], None);
        let options = parse(&["-name", "-name", "-uuid", A]);
        assert_eq!(options.name.as_deref(), Some("-name"));
        assert_eq!(options.uuid.unwrap().0, A);
    }

    #[test]
    fn flags_before_an_option_do_not_hide_it() {
        assert_name(&["-S", "-nodefaults", "-name", "web", "-enable-kvm"], Some("web"));
    }

    #[test]
    fn the_last_uuid_stays() {
        let smbios = format!("type=1,uuid={B},serial=x");
        let reversed = format!("uuid={B},type=1");
        assert_eq!(parse(&["-uuid", A]).uuid, Some((A.to_owned(), "command line, -uuid")));
        assert_eq!(parse(&["-uuid", A, "-uuid", B]).uuid.unwrap().0, B);
        assert_eq!(parse(&["-smbios", &reversed]).uuid.unwrap().0, B);
        assert_eq!(
            parse(&["-uuid", A, "-smbios", &smbios]).uuid,
            Some((B.to_owned(), "command line, -smbios type=1"))
        );
        assert_eq!(parse(&["-smbios", &smbios, "-uuid", A]).uuid.unwrap().0, A);
    }

    #[test]
    fn what_is_no_uuid_is_not_taken() {
        let other_table = format!("type=2,uuid={B}");
        assert_eq!(parse(&["-uuid", "x"]).uuid, None);
        assert_eq!(parse(&["-uuid", "00000000-0000-0000-0000-000000000000"]).uuid, None);
        assert_eq!(parse(&["-smbios", &other_table]).uuid, None);
        assert_eq!(parse(&["-smbios", &format!("uuid={B}")]).uuid, None);
        assert_eq!(parse(&["-smbios", "type=1,serial=x"]).uuid, None);
    }

    #[test]
    fn qemu_is_known_by_its_program_or_by_what_it_was_called() {
        let called = |exe: Option<&str>, argv0: &str| {
            let facts = ProcessFacts {
                exe: exe.map(|exe| exe.as_bytes().to_vec()),
                args: vec![argv0.as_bytes().to_vec()],
                ..ProcessFacts::default()
            };
            is_program_of(&facts)
        };
        assert_eq!(called(Some("qemu-system-x86_64"), "x"), Some("program name"));
        assert_eq!(called(Some("kvm"), "x"), Some("program name"));
        assert_eq!(called(None, "/usr/libexec/qemu-kvm"), Some("command line, argument 0"));
        assert_eq!(called(Some("wrapper"), "/usr/bin/kvm"), Some("command line, argument 0"));
        assert_eq!(called(Some("kvmtool"), "lkvm"), None);
        assert_eq!(called(None, ""), None);
    }
}
