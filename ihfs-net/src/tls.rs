//! TLS 1.3 between peers: libp2p's certificates, our choice of algorithms.
//!
//! Key exchange X25519MLKEM768 (<https://datatracker.ietf.org/doc/draft-ietf-tls-ecdhe-mlkem/>) and
//! nothing weaker: what is recorded today stays closed to a quantum computer. AES-256-GCM first,
//! ChaCha20 for processors without AES. Certificates are those of
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>: self-signed, with the Ed25519 identity
//! in an extension; both sides show one. Differences from stock libp2p-tls: the above, ALPN
//! `ihfs/1`, no session resumption, no key log, Ed25519 identities alone.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::tls::certificate::{self, P2pCertificate};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768, sign::any_ecdsa_type};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};

use crate::peer::{Identity, PeerKey};

/// Name and version of everything above TLS; a peer without it is refused in the handshake.
const ALPN: &[u8] = b"ihfs/1";
/// In order of preference: AES costs a third less than ChaCha20 where the processor has it.
const CIPHERS: [SupportedCipherSuite; 3] =
    [TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
/// The only key exchange.
const KEY_EXCHANGE: [&dyn SupportedKxGroup; 1] = [X25519MLKEM768];

/// Both ends of the handshake under one identity. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn new(identity: &Identity) -> Result<Self, TlsSetupError> {
        let certificate = certify(identity)?;
        let verifier = Arc::new(PeerVerifier);
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(certificate.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(certificate);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// The answering end of a handshake.
    pub(crate) async fn accept<S>(&self, socket: S) -> io::Result<(PeerKey, TlsStream<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.server.clone()).accept(socket).await?;
        Ok((peer_of(stream.get_ref().1)?, stream.into()))
    }

    /// The opening end of a handshake.
    pub(crate) async fn connect<S>(&self, socket: S) -> io::Result<(PeerKey, TlsStream<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Names play no part: the peer is known by its key.
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let stream = TlsConnector::from(self.client.clone()).connect(name, socket).await?;
        Ok((peer_of(stream.get_ref().1)?, stream.into()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: CIPHERS.to_vec(),
        kx_groups: KEY_EXCHANGE.to_vec(),
        ..default_provider()
    })
}

fn certify(identity: &Identity) -> Result<Arc<SingleCertAndKey>, TlsSetupError> {
    let (certificate, key) = certificate::generate(identity.keypair())?;
    let key = any_ecdsa_type(&key)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key).into()))
}

/// The peer of a finished handshake, which the verifier has let through. The ALPN was checked by
/// rustls on the answering side only; the opening side checks it here.
fn peer_of(state: &CommonState) -> io::Result<PeerKey> {
    if state.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak ihfs/1"));
    }
    let certificates = state.peer_certificates().unwrap_or_default();
    let [certificate] = certificates else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer showed no single certificate"));
    };
    key_of(certificate).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The certificate could not be made.
    #[error("no certificate could be made for the identity")]
    Certificate(#[from] certificate::GenError),
    /// The algorithms could not be set.
    #[error("TLS could not be configured")]
    Configuration(#[from] rustls::Error),
}

/// Accepts any peer with a valid libp2p certificate; who it is, is compared after the handshake.
#[derive(Debug)]
struct PeerVerifier;

impl PeerVerifier {
    fn verify(
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        key_of(certificate).map(|_| ())
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        parse(certificate)?
            .verify_signature(signed.scheme, message, signed.signature())
            .map_err(|_| CertificateError::BadSignature)?;
        Ok(HandshakeSignatureValid::assertion())
    }
}

/// The identity that a certificate proves, which must be Ed25519.
fn key_of(certificate: &CertificateDer<'_>) -> Result<PeerKey, rustls::Error> {
    PeerKey::from_peer_id(&parse(certificate)?.peer_id())
        .ok_or_else(|| CertificateError::ApplicationVerificationFailure.into())
}

fn parse<'a>(certificate: &'a CertificateDer<'a>) -> Result<P2pCertificate<'a>, rustls::Error> {
    certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// The key of a certificate is made by libp2p-tls, always on P-256; Ed25519 is what the specification allows besides.
const SIGNATURES: [SignatureScheme; 2] = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::verify(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.to_vec()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::verify(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, NamedGroup};

    use super::*;

    const CLIENT: [u8; 32] = [1; 32];
    const SERVER: [u8; 32] = [2; 32];

    async fn sockets() -> (impl AsyncRead + AsyncWrite + Unpin, impl AsyncRead + AsyncWrite + Unpin) {
        crate::hostile::sockets().await
    }

    fn tls(seed: [u8; 32]) -> Tls {
        Tls::new(&Identity::from_seed(&seed)).unwrap()
    }

    #[tokio::test]
    async fn the_hybrid_exchange_and_aes_are_negotiated_and_both_keys_proved() {
        let (near, far) = sockets().await;
        let (client, server) = (tls(CLIENT), tls(SERVER));
        let (connected, accepted) = tokio::join!(client.connect(near), server.accept(far));
        let ((server_key, near), (client_key, far)) = (connected.unwrap(), accepted.unwrap());
        assert_eq!(server_key, Identity::from_seed(&SERVER).peer_key());
        assert_eq!(client_key, Identity::from_seed(&CLIENT).peer_key());
        let states: [&CommonState; 2] = [near.get_ref().1, far.get_ref().1];
        for state in states {
            let group = state.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, NamedGroup::X25519MLKEM768);
            let suite = state.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
        }
    }

    /// Connects with a changed configuration; the client's and the server's outcome.
    async fn connect_with(change: impl FnOnce(&mut ClientConfig)) -> [bool; 2] {
        let (near, far) = sockets().await;
        let mut client = tls(CLIENT);
        change(Arc::get_mut(&mut client.client).unwrap());
        let server = tls(SERVER);
        let (connected, accepted) = tokio::join!(client.connect(near), server.accept(far));
        [connected.is_ok(), accepted.is_ok()]
    }

    #[tokio::test]
    async fn a_peer_without_the_hybrid_exchange_is_refused() {
        let classic = CryptoProvider {
            kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519],
            ..default_provider()
        };
        let outcome = connect_with(|config| {
            let mut changed = ClientConfig::builder_with_provider(Arc::new(classic))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(PeerVerifier))
                .with_client_cert_resolver(config.client_auth_cert_resolver.clone());
            changed.alpn_protocols = vec![ALPN.to_vec()];
            *config = changed;
        });
        assert_eq!(outcome.await, [false, false]);
    }

    #[tokio::test]
    async fn a_peer_of_another_protocol_is_refused() {
        let other = connect_with(|config| config.alpn_protocols = vec![b"libp2p".to_vec()]);
        assert_eq!(other.await, [false, false]);
        let none = connect_with(|config| config.alpn_protocols.clear());
        assert!(!none.await[1]);
    }

    #[tokio::test]
    async fn a_peer_without_a_certificate_is_refused() {
        #[derive(Debug)]
        struct NoCertificate;
        impl rustls::client::ResolvesClientCert for NoCertificate {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                None
            }
            fn has_certs(&self) -> bool {
                false
            }
        }
        let outcome = connect_with(|config| config.client_auth_cert_resolver = Arc::new(NoCertificate));
        assert!(!outcome.await[1]);
    }
}
