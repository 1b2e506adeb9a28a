//! Connections to the receiver, with TLS where its URL says https.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

use super::files::{self, Content, FileError, MAX_PEM};
use crate::export::settings::{Protocol, Target, TlsSettings};

/// Keys or certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not PEM.
    #[error("{}: not readable as PEM {what}; check the path and its content", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        what: &'static str,
        /// What the parser says.
        source: pem::Error,
    },
    /// A file has no usable certificate of an authority.
    #[error("{}: no usable certificate in it; give the PEM file of the authority that signed the receiver's certificate", .0.display())]
    NoAuthority(PathBuf),
    /// The system has no certificates of authorities.
    #[error(
        "the system has no trusted certificates; install ca-certificates, or set export.tls.ca_certificate"
    )]
    NoSystemRoots(#[source] io::Error),
    /// rustls refuses what it was given.
    #[error(
        "TLS cannot be set up; check that export.tls.client_key belongs to export.tls.client_certificate"
    )]
    Refused(#[from] rustls::Error),
}

/// Keys and certificates, as files have them at one moment. Where nothing is encrypted there are none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    authorities: Vec<CertificateDer<'static>>,
    /// What the sampler shows to the receiver.
    chain: Vec<CertificateDer<'static>>,
    /// The key of the chain, as PEM.
    key: Vec<u8>,
    /// Whether everybody on this host may read the key, or write it.
    pub(super) key_is_open: bool,
}

impl Material {
    /// Reads what a connection to the target needs.
    pub(super) fn read(tls: &TlsSettings, target: &Target) -> Result<Self, TlsError> {
        if !target.is_encrypted() {
            return Ok(Self::default());
        }
        let authorities = match &tls.ca_certificate {
            Some(path) => certificates(path)?,
            None => system_authorities()?,
        };
        let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_key) else {
            return Ok(Self { authorities, ..Self::default() });
        };
        let Content { bytes, is_open } = files::read(key, MAX_PEM)?;
        Ok(Self { authorities, chain: certificates(certificate)?, key: bytes, key_is_open: is_open })
    }
}

/// A connector for the target's protocol.
pub(super) fn connector(
    material: &Material,
    tls: &TlsSettings,
    target: &Target,
) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let config = if target.is_encrypted() {
        present(builder()?.with_root_certificates(roots(material, tls)?), material, tls)?
    } else {
        builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    Ok(match target.protocol {
        Protocol::HttpProtobuf => builder.enable_http1().wrap_connector(tcp),
        Protocol::Grpc => builder.enable_http2().wrap_connector(tcp),
    })
}

/// The provider is named, for with two of them in a process rustls would choose none.
fn builder() -> Result<ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

/// Adds the certificate that the sampler shows, where there is one.
fn present(
    trusting: ConfigBuilder<ClientConfig, WantsClientCert>,
    material: &Material,
    tls: &TlsSettings,
) -> Result<ClientConfig, TlsError> {
    let Some(path) = tls.client_key.as_ref().filter(|_| tls.client_certificate.is_some()) else {
        return Ok(trusting.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|source| TlsError::Pem {
        path: path.clone(),
        what: "private key",
        source,
    })?;
    Ok(trusting.with_client_auth_cert(material.chain.clone(), key)?)
}

fn roots(material: &Material, tls: &TlsSettings) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(material.authorities.iter().cloned());
    match &tls.ca_certificate {
        _ if usable > 0 => Ok(roots),
        Some(path) => Err(TlsError::NoAuthority(path.clone())),
        None => Err(TlsError::NoSystemRoots(io::Error::other("none of them is usable"))),
    }
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.into_iter().next() {
        Some(error) if found.certs.is_empty() => Err(TlsError::NoSystemRoots(io::Error::other(error))),
        _ => Ok(found.certs),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let Content { bytes, .. } = files::read(path, MAX_PEM)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>();
    certificates.map_err(|source| TlsError::Pem { path: path.to_owned(), what: "certificates", source })
}
