//! Command lines of VMMs that write options with two hyphens.

/// The value of the first option with this name, as `--name value` or `--name=value`.
pub(super) fn value<'a>(args: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.strip_prefix(name.as_bytes()) {
            Some([]) => return args.next().map(Vec::as_slice),
            Some([b'=', value @ ..]) => return Some(value),
            _ => {}
        }
    }
    None
}

/// The value of a key in `key=value,key=value`.
pub(super) fn key<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut pairs = text.split(|&byte| byte == b',');
    pairs.find_map(|pair| pair.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_both_forms() {
        let of = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            value(&args, "--name").map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(of(&["x", "--name", "a"]).as_deref(), Some("a"));
        assert_eq!(of(&["x", "-v", "--name=a=b", "--name", "c"]).as_deref(), Some("a=b"));
        assert_eq!(of(&["--name", "a"]), None, "the first argument is the program");
        assert_eq!(of(&["x", "--name"]), None);
        assert_eq!(of(&["x", "--named", "a"]), None);
        assert_eq!(key(b"a=1,uuid=2,uuid=3", "uuid"), Some(&b"2"[..]));
        assert_eq!(key(b"myuuid=1", "uuid"), None);
    }
}
