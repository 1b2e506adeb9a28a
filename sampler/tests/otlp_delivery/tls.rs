//! TLS: the authority that is configured is trusted and no other, and the client shows its certificate.

use std::{path::PathBuf, sync::Arc};

use hvsampler::export::{
    pipeline::Pipeline,
    settings::{ExportSettings, Protocol, TlsSettings},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

use super::{BOTH, Host, PATIENCE, Peer, peer::Reply, snapshot, start, until};

/// An authority, and a directory for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }

    /// A certificate for 127.0.0.1 and its key, PEM both.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn acceptor(&self, protocol: Protocol, asks_client: bool) -> TlsAcceptor {
        let (certificate, key) = self.sign();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let mut config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
        config.alpn_protocols =
            vec![if protocol == Protocol::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn peer(authority: &Authority, protocol: Protocol, asks_client: bool) -> (Peer, ExportSettings) {
    let acceptor = authority.acceptor(protocol, asks_client);
    let replies: Vec<Reply> = Vec::new();
    let peer = Peer::start_at("127.0.0.1:0".parse().unwrap(), protocol, replies, Some(acceptor)).await;
    let mut settings = peer.settings();
    settings.endpoint = Some(format!("https://{}", peer.address));
    settings.tls.ca_certificate = Some(authority.write("ca.pem", &authority.issuer.pem()));
    (peer, settings)
}

#[tokio::test]
async fn the_configured_authority_is_trusted() {
    for protocol in BOTH {
        let authority = Authority::new();
        let (peer, settings) = peer(&authority, protocol, false).await;
        let pipeline = start(&settings);
        pipeline.offer(snapshot(1));
        peer.wait_for(1).await;
        assert_eq!(pipeline.shutdown(PATIENCE).await.exported_requests, 1);
    }
}

#[tokio::test]
async fn another_authority_is_not() {
    for protocol in BOTH {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let (peer, mut settings) = peer(&authority, protocol, false).await;
        settings.tls.ca_certificate = Some(stranger.write("ca.pem", &stranger.issuer.pem()));
        let pipeline = start(&settings);
        pipeline.offer(snapshot(1));
        until(|| pipeline.stats().failed_attempts >= 2).await;
        assert!(peer.seen().is_empty(), "nothing may be sent to a stranger");
        let error = pipeline.stats().last_error.unwrap();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn the_client_shows_its_certificate() {
    for protocol in BOTH {
        let authority = Authority::new();
        let (peer, mut settings) = peer(&authority, protocol, true).await;
        let nameless = start(&settings);
        nameless.offer(snapshot(1));
        until(|| nameless.stats().failed_attempts >= 1).await;
        assert!(peer.seen().is_empty(), "the receiver asks for a certificate");

        let (certificate, key) = authority.sign();
        settings.tls.client_certificate = Some(authority.write("client.pem", &certificate));
        settings.tls.client_key = Some(authority.write("client.key", &key));
        let pipeline = start(&settings);
        pipeline.offer(snapshot(2));
        peer.wait_for(1).await;
        assert_eq!(pipeline.shutdown(PATIENCE).await.exported_requests, 1);
    }
}

#[tokio::test]
async fn an_authority_that_is_renewed_counts_after_a_failed_handshake() {
    for protocol in BOTH {
        let (authority, old) = (Authority::new(), Authority::new());
        let (peer, mut settings) = peer(&authority, protocol, false).await;
        let file = old.write("ca.pem", &old.issuer.pem());
        settings.tls.ca_certificate = Some(file.clone());
        let pipeline = start(&settings);
        pipeline.offer(snapshot(1));
        until(|| pipeline.stats().failed_attempts >= 2).await;
        // What cannot be used takes the place of nothing.
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----").unwrap();
        let before = pipeline.stats().failed_attempts;
        until(|| pipeline.stats().failed_attempts >= before + 2).await;
        assert!(peer.seen().is_empty(), "nothing may be sent to a stranger");
        std::fs::write(&file, authority.issuer.pem()).unwrap();
        peer.wait_for(1).await;
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.exported_requests, crate::all_dropped(&stats)), (1, 0));
    }
}

#[tokio::test]
async fn a_certificate_of_ours_that_is_renewed_counts_after_it_was_refused() {
    for protocol in BOTH {
        let (authority, old) = (Authority::new(), Authority::new());
        let (peer, mut settings) = peer(&authority, protocol, true).await;
        let (certificate, key) = old.sign();
        let certificate_file = old.write("client.pem", &certificate);
        let key_file = old.write("client.key", &key);
        settings.tls.client_certificate = Some(certificate_file.clone());
        settings.tls.client_key = Some(key_file.clone());
        let pipeline = start(&settings);
        pipeline.offer(snapshot(1));
        until(|| pipeline.stats().failed_attempts >= 1).await;
        assert!(peer.seen().is_empty(), "the receiver asks for another certificate");
        let (certificate, key) = authority.sign();
        std::fs::write(&key_file, key).unwrap();
        std::fs::write(&certificate_file, certificate).unwrap();
        peer.wait_for(1).await;
        assert_eq!(pipeline.shutdown(PATIENCE).await.exported_requests, 1);
    }
}

#[tokio::test]
async fn unusable_files_are_named_at_start() {
    let authority = Authority::new();
    let (certificate, _) = authority.sign();
    let (_, foreign_key) = authority.sign();
    let ca = authority.write("ca.pem", &authority.issuer.pem());
    let certificate = authority.write("client.pem", &certificate);
    let foreign_key = authority.write("foreign.key", &foreign_key);
    let garbage = authority.write("garbage.pem", "not PEM");
    let missing = authority.directory.path().join("missing.pem");
    let tls = |ca: &PathBuf, pair: Option<(&PathBuf, &PathBuf)>| TlsSettings {
        ca_certificate: Some(ca.clone()),
        client_certificate: pair.map(|(certificate, _)| certificate.clone()),
        client_key: pair.map(|(_, key)| key.clone()),
        insecure: false,
    };
    for (tls, expected) in [
        (tls(&missing, None), "missing.pem"),
        (tls(&garbage, None), "garbage.pem"),
        (tls(&ca, Some((&certificate, &garbage))), "garbage.pem"),
        (tls(&ca, Some((&certificate, &foreign_key))), "client_key"),
    ] {
        let settings =
            ExportSettings { endpoint: Some("https://127.0.0.1:1".into()), tls, ..Default::default() };
        let error = Pipeline::start(&settings, &Host::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
