//! Which boot of the host this is.

use std::io;

use uuid::Uuid;

use super::Root;

/// Where the kernel says it.
const PATH: &str = "proc/sys/kernel/random/boot_id";

/// The kernel's name for this boot: it draws another one each time.
///
/// # Errors
/// It cannot be read, or is none.
pub fn id(root: &Root) -> io::Result<[u8; 16]> {
    let text = root.text(PATH)?;
    let id = Uuid::parse_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(id.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::FakeRoot, *};

    #[test]
    fn an_id_is_its_bytes_and_anything_else_is_an_error() {
        let read = |text: &str| id(&FakeRoot::new().file(PATH, text).root());
        let bytes = [0x0f, 0xe6, 0, 1, 2, 3, 0x44, 5, 0x86, 7, 8, 9, 10, 11, 12, 13];
        assert_eq!(read("0fe60001-0203-4405-8607-08090a0b0c0d\n").unwrap(), bytes);
        assert_eq!(read("soon\n").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(id(&FakeRoot::new().root()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
