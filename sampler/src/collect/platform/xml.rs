//! A walk over an XML document that somebody else wrote. Nothing is expanded: a document that declares
//! entities is refused, and depth is bounded as length is by whoever read it.

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesRef, BytesStart, Event},
};

use super::text::MAX_TEXT;

/// Elements inside each other. libvirt has some twelve.
const MAX_DEPTH: usize = 64;

/// Elements inside each other that are looked at.
const LOOKED_AT: usize = 8;

/// Why a document is not read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    /// It is no XML.
    #[error("{0}")]
    Malformed(#[from] quick_xml::Error),
    /// It has what nobody needs who writes in good faith.
    #[error("{0}")]
    Refused(&'static str),
}

/// What a walk meets.
pub(super) enum Node<'a> {
    /// An element begins.
    Begin(&'a Element<'a>),
    /// An element ends, and had this text and no elements inside.
    Text(&'a str),
}

/// An element's attributes.
pub(super) struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// An attribute's value. Looks no further than the first that has this name, so that many of them cost
    /// what their bytes do.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.0.attributes();
        let mut attributes = attributes.with_checks(false).map_while(Result::ok);
        let found = attributes.find(|attribute| attribute.key.as_ref() == name)?;
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
    }
}

/// Calls `visit` with each node and the names of the elements that it is in, its own the last.
pub(super) fn walk(document: &str, mut visit: impl FnMut(&[&str], Node<'_>)) -> Result<(), XmlError> {
    let mut reader = Reader::from_str(document);
    let mut names: Vec<String> = Vec::new();
    // Of the element that began last, while nothing else has begun or ended.
    let mut text: Option<String> = None;
    let mut visit = |names: &[String], node: Node<'_>| {
        let mut path = [""; LOOKED_AT];
        if names.len() <= LOOKED_AT {
            path.iter_mut().zip(names).for_each(|(to, name)| *to = name);
            visit(&path[..names.len()], node);
        }
    };
    loop {
        match reader.read_event()? {
            Event::Start(element) => {
                begin(&mut names, element, &mut visit)?;
                text = Some(String::new());
            }
            Event::Empty(element) => {
                begin(&mut names, element, &mut visit)?;
                names.pop();
                text = None;
            }
            Event::End(_) => {
                if let Some(text) = text.take() {
                    visit(&names, Node::Text(&text));
                }
                names.pop();
            }
            Event::Text(part) => append(text.as_mut(), &part.xml10_content()),
            Event::CData(part) => append(text.as_mut(), &part.xml10_content()),
            Event::GeneralRef(reference) => append(text.as_mut(), &resolve(&reference)?),
            Event::DocType(_) => return Err(XmlError::Refused("declares a type of document")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return Ok(()),
        }
    }
}

fn begin(
    names: &mut Vec<String>,
    element: BytesStart<'_>,
    visit: &mut impl FnMut(&[String], Node<'_>),
) -> Result<(), XmlError> {
    if names.len() == MAX_DEPTH {
        return Err(XmlError::Refused("has too many elements inside each other"));
    }
    names.push(element.name().as_ref().to_owned());
    visit(names, Node::Begin(&Element(element)));
    Ok(())
}

/// What is longer than any text may be is cut by whoever takes it.
fn append(text: Option<&mut String>, part: &str) {
    if let Some(text) = text.filter(|text| text.len() <= MAX_TEXT) {
        text.push_str(part);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, XmlError> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character.into());
    }
    let known = resolve_predefined_entity(reference).map(str::to_owned);
    known.ok_or(XmlError::Refused("has an entity of its own"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn texts(document: &str) -> Result<String, String> {
        let mut all = String::new();
        let walked = walk(document, |path, node| match node {
            Node::Begin(element) => {
                let n = element.attribute("n").map(|n| format!("[{n}]")).unwrap_or_default();
                let _ = write!(all, "<{}{n}>", path.join("/"));
            }
            Node::Text(text) => all.push_str(text),
        });
        walked.map(|()| all).map_err(|error| error.to_string())
    }

    #[test]
    fn elements_are_visited_with_what_they_are_in() {
        let document = "<?xml version='1.0'?><!-- c --><a n='1 &lt;'>x<b/>y<c m='0' n=\"&#50;\">a &amp;&#x62; \
                        <![CDATA[<&]]></c><d>\n</d></a>";
        assert_eq!(texts(document).unwrap(), "<a[1 <]><a/b><a/c[2]>a &b <&<a/d>\n");
        assert_eq!(texts("").unwrap(), "");
    }

    #[test]
    fn nothing_is_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c;</a>";
        assert_eq!(texts(bomb).unwrap_err(), "declares a type of document");
        assert_eq!(texts("<a>&b;</a>").unwrap_err(), "has an entity of its own");
        assert_eq!(texts("<a n='&b;'/>").unwrap(), "<a>", "an attribute that is not understood is not there");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(texts(&deep(MAX_DEPTH)).is_ok());
        assert_eq!(texts(&deep(100_000)).unwrap_err(), "has too many elements inside each other");
        let long = texts(&format!("<a>{}</a>", "x&amp;".repeat(100_000))).unwrap();
        assert!(long.len() < 2 * MAX_TEXT, "{}", long.len());
        let attributes: String = (0..100_000).fold(String::new(), |mut all, n| {
            let _ = write!(all, " a{n}=''");
            all
        });
        assert_eq!(texts(&format!("<a{attributes} n='1'/>")).unwrap(), "<a[1]>");
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        for document in ["<a>", "<a></b>", "</a>", "<a n='1>", "<a>&#0;</a>", "<a", "<!--"] {
            let _ = texts(document);
        }
        assert!(texts("<a></b>").is_err() && texts("<a n='1>").is_err());
    }

    proptest! {
        #[test]
        fn any_document_is_walked_to_an_end(parts in proptest::collection::vec(
            prop_oneof![
                Just("<a>".to_owned()), Just("</a>".to_owned()), Just("<b n='1'/>".to_owned()),
                Just("&amp;".to_owned()), Just("<![CDATA[".to_owned()), "\\PC{0,8}", "[<>&;'\"=!?/\\-\\[\\]a]{0,9}",
            ],
            0..40,
        )) {
            let _ = texts(&parts.concat());
        }
    }
}
