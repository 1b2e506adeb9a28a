//! OpenStack: what nova notes of an instance in libvirt's status file.

use super::{
    GuestIdentity,
    xml::{Element, Node},
};
use crate::model::Fact;

const FROM: &str = "nova's metadata in libvirt's status file";

/// What nova notes of an instance.
#[derive(Debug, Default)]
pub(super) struct Instance {
    name: Option<String>,
    project: Option<String>,
    project_id: Option<String>,
    flavor: Option<String>,
}

impl Instance {
    /// Takes in a node of a domain's metadata; `path` begins there.
    pub(super) fn visit(&mut self, path: &[&str], node: &Node<'_>) {
        match (path, node) {
            (["nova:instance", "nova:name"], Node::Text(name)) => self.name = Some((*name).to_owned()),
            (["nova:instance", "nova:flavor"], Node::Begin(flavor)) => {
                self.flavor = flavor.attribute("name");
            }
            (["nova:instance", "nova:owner", "nova:project"], node) => match node {
                Node::Begin(project) => self.project_id = project_id(project),
                Node::Text(project) => self.project = Some((*project).to_owned()),
            },
            _ => {}
        }
    }

    /// The guest as OpenStack knows it, where nova noted it. What libvirt calls it is another name then.
    pub(super) fn identity(self, domain: Option<&str>, domain_from: &'static str) -> Option<GuestIdentity> {
        let name = self.name?;
        let identity = GuestIdentity::of("openstack", FROM)
            .with(Fact::Domain, domain, domain_from)
            .with(Fact::Name, Some(name), FROM)
            .with(Fact::Project, self.project, FROM)
            .with(Fact::ProjectId, self.project_id, FROM)
            .with(Fact::Flavor, self.flavor, FROM);
        Some(identity)
    }
}

fn project_id(project: &Element<'_>) -> Option<String> {
    project.attribute("uuid")
}
