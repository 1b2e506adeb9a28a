//! The container image: an archive in the form of the OCI image specification 1.1, written here without a
//! daemon. It holds the binary, the C library that it runs with, and licences. What the container shows of its
//! host is mounted at `/host`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Release, stage::Stage};
use crate::shell;

const TYPE: &str = "application/vnd.oci.image";
/// Where the host's root is mounted.
const HOST: &str = "/host";

/// A file of the image, by its digest.
struct Blob {
    digest: String,
    bytes: u64,
}

impl Blob {
    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": format!("{TYPE}.{kind}"), "digest": self.digest, "size": self.bytes })
    }
}

/// Makes it with the C library that is below `libraries`: no older than the one that the binary needs.
pub(super) fn make(release: &Release<'_>, libraries: &Path, out: &Path) -> Result<PathBuf> {
    let folder = out.join("image");
    let image = Image { release, blobs: folder.join("blobs/sha256") };
    fs::create_dir_all(&image.blobs).with_context(|| format!("creating {}", image.blobs.display()))?;
    let (layer, uncompressed) = image.layer(libraries, &out.join("layer"))?;
    let config = image.add(&image.config(&uncompressed)?)?;
    let manifest = image.add(&json!({
        "schemaVersion": 2,
        "mediaType": format!("{TYPE}.manifest.v1+json"),
        "config": config.descriptor("config.v1+json"),
        "layers": [layer.descriptor("layer.v1.tar+gzip")],
    }))?;
    let mut entry = manifest.descriptor("manifest.v1+json");
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    // podman takes the one for the image's name, containerd the other.
    let name = format!("localhost/hvsampler:{}", release.version);
    entry["annotations"] =
        json!({ "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": format!("{TYPE}.index.v1+json"),
        "manifests": [entry],
    });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    let package = out.join(format!("hvsampler-{}-x86_64.oci.tar", release.version));
    let stage = Stage { root: folder };
    stage.date(release)?;
    shell::quiet(&mut archive(release, &stage.root, &package))?;
    fs::remove_dir_all(&stage.root)?;
    Ok(package)
}

struct Image<'a> {
    release: &'a Release<'a>,
    blobs: PathBuf,
}

impl Image<'_> {
    /// The one layer, and the digest of what is in it.
    fn layer(&self, libraries: &Path, folder: &Path) -> Result<(Blob, String)> {
        let stage = Stage::image(self.release, libraries, folder)?;
        self.runs(&stage.root)?;
        let tar = folder.with_extension("tar");
        shell::quiet(&mut archive(self.release, &stage.root, &tar))?;
        let uncompressed = digest(self.release, &tar)?;
        shell::quiet(self.release.command("gzip").arg("-9n").arg(&tar))?;
        fs::remove_dir_all(&stage.root)?;
        Ok((self.take(&folder.with_extension("tar.gz"))?, uncompressed))
    }

    /// Fails where the binary does not run with what is in the image.
    fn runs(&self, root: &Path) -> Result<()> {
        let mut command = match shell::is_root() {
            true => self.release.command("chroot"),
            false => self.release.command("unshare"),
        };
        if !shell::is_root() {
            command.args(["--user", "--map-root-user", "chroot"]);
        }
        let command = command.arg(root).args(["/usr/bin/hvsampler", "--version"]);
        shell::quiet(command).context("the image's binary does not run with the image's libraries")?;
        Ok(())
    }

    fn config(&self, uncompressed: &str) -> Result<Value> {
        let mut date = self.release.command("date");
        let date = shell::read(
            date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"]).arg(format!("@{}", self.release.epoch)),
        )?;
        let date = date.trim();
        Ok(json!({
            "created": date,
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": ["/usr/bin/hvsampler", "--root", HOST],
                "Cmd": ["run"],
                "Env": ["PATH=/usr/bin"],
                "WorkingDir": "/",
                "StopSignal": "SIGTERM",
                "Labels": {
                    "org.opencontainers.image.title": "hvsampler",
                    "org.opencontainers.image.version": self.release.version,
                    "org.opencontainers.image.licenses": "(MIT OR Apache-2.0) AND GPL-2.0-only",
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [uncompressed] },
            "history": [{ "created": date, "created_by": "cargo xtask dist" }],
        }))
    }

    fn add(&self, value: &Value) -> Result<Blob> {
        let path = self.blobs.with_extension("json");
        fs::write(&path, value.to_string())?;
        self.take(&path)
    }

    /// Moves a file to where its digest says.
    fn take(&self, path: &Path) -> Result<Blob> {
        let digest = digest(self.release, path)?;
        let name = digest.strip_prefix("sha256:").context("another kind of digest")?;
        fs::rename(path, self.blobs.join(name))?;
        Ok(Blob { bytes: fs::metadata(self.blobs.join(name))?.len(), digest })
    }
}

fn digest(release: &Release<'_>, path: &Path) -> Result<String> {
    let said = shell::read(release.command("sha256sum").arg("--").arg(path))?;
    let digest = said.split_whitespace().next().context("sha256sum says nothing")?;
    Ok(format!("sha256:{}", digest.trim_start_matches('\\')))
}

/// The content of a folder, the same bytes each time.
fn archive(release: &Release<'_>, folder: &Path, to: &Path) -> std::process::Command {
    let mut tar = release.command("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--mode=u=rwX,go=rX").arg("--file").arg(to).arg("--directory").arg(folder).arg(".");
    tar
}
