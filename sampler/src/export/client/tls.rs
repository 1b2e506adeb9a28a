//! Connections to the receiver, with TLS where its URL says https.

use std::{path::Path, path::PathBuf, sync::Arc};

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

use crate::export::settings::{ExportSettings, Protocol, Target, TlsSettings};

/// Keys or certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error(
        "{}: not readable as PEM {what}; check the path, its permissions and its content",
        path.display()
    )]
    File {
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
    NoSystemRoots(#[source] std::io::Error),
    /// rustls refuses what it was given.
    #[error(
        "TLS cannot be set up; check that export.tls.client_key belongs to export.tls.client_certificate"
    )]
    Refused(#[from] rustls::Error),
}

/// A connector for the target's protocol. Plain HTTP reads no file.
pub(super) fn connector(
    settings: &ExportSettings,
    target: &Target,
) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let config = if target.uri.scheme_str() == Some("https") {
        client_config(&settings.tls)?
    } else {
        builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(std::time::Duration::from_secs(60)));
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

fn client_config(tls: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let trusting = match &tls.ca_certificate {
        Some(path) => builder()?.with_root_certificates(authorities(path)?),
        None => builder()?.with_native_roots().map_err(TlsError::NoSystemRoots)?,
    };
    present(trusting, tls)
}

/// Adds the certificate that the sampler shows, where there is one.
fn present(
    trusting: ConfigBuilder<ClientConfig, WantsClientCert>,
    tls: &TlsSettings,
) -> Result<ClientConfig, TlsError> {
    let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_key) else {
        return Ok(trusting.with_no_client_auth());
    };
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
        path: key.clone(),
        what: "private key",
        source,
    })?;
    Ok(trusting.with_client_auth_cert(certificates(certificate)?, key_der)?)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates(path)?);
    if usable == 0 {
        return Err(TlsError::NoAuthority(path.to_owned()));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), what: "certificates", source };
    CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<_, _>>().map_err(file)
}
