//! `sslmode` and `sslrootcert`, as libpq means them, over rustls.
//!
//! | sslmode | |
//! | --- | --- |
//! | `disable` | plain text |
//! | `prefer` (default), `allow` | TLS if the server has it, the certificate is not looked at |
//! | `require` | TLS, the certificate is not looked at, unless `sslrootcert` says by whom it must be signed |
//! | `verify-ca` | signed by somebody whom we trust |
//! | `verify-full` | and made out for this host |
//!
//! `sslrootcert` is a PEM file, or `system`. Without it the system's certificates are trusted (libpq looks for a file in the home folder). A
//! certificate of that file is believed from the server itself as well, as self-signed ones are used; it does not expire then.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much of the server's certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Anybody,
    Authority,
    Host,
}

fn mode(sslmode: Option<&str>, has_root: bool) -> Result<(SslMode, Trust), String> {
    Ok(match sslmode.unwrap_or("prefer") {
        "disable" => (SslMode::Disable, Trust::Anybody),
        "allow" | "prefer" => (SslMode::Prefer, Trust::Anybody),
        "require" if has_root => (SslMode::Require, Trust::Authority),
        "require" => (SslMode::Require, Trust::Anybody),
        "verify-ca" => (SslMode::Require, Trust::Authority),
        "verify-full" => (SslMode::Require, Trust::Host),
        other => {
            return Err(format!("sslmode={other} is none of disable, allow, prefer, require, verify-ca, verify-full"));
        }
    })
}

/// What the driver needs for these parameters of the URL.
pub fn connector(sslmode: Option<&str>, sslrootcert: Option<&str>) -> Result<(SslMode, MakeRustlsConnect), String> {
    let (mode, trust) = mode(sslmode, sslrootcert.is_some())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority = match trust {
        Trust::Anybody => None,
        Trust::Authority | Trust::Host => Some(authority(sslrootcert, provider.clone())?),
    };
    let verifier = Arc::new(Verifier { provider: provider.clone(), authority, host_matters: trust == Trust::Host });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok((mode, MakeRustlsConnect::new(config)))
}

/// Whom we trust to sign, and to be the server.
#[derive(Debug)]
struct Authority {
    signers: Arc<WebPkiServerVerifier>,
    /// Certificates of the file, which the server may show itself.
    own: Vec<CertificateDer<'static>>,
}

fn authority(file: Option<&str>, provider: Arc<CryptoProvider>) -> Result<Authority, String> {
    let name = file.unwrap_or("system");
    let wrong = |error: &dyn std::fmt::Display| format!("sslrootcert={name}: {error}");
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    match file {
        None | Some("system") => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
                own.push(certificate);
            }
        }
    }
    let signers = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Authority { signers: signers.map_err(|error| wrong(&error))?, own })
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: anybody is believed.
    authority: Option<Authority>,
    host_matters: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        if authority.own.iter().any(|own| own == certificate) {
            if self.host_matters {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match authority.signers.verify_server_cert(certificate, intermediates, host, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.host_matters => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_libpqs() {
        for (sslmode, has_root, expected) in [
            (None, false, (SslMode::Prefer, Trust::Anybody)),
            (Some("disable"), true, (SslMode::Disable, Trust::Anybody)),
            (Some("require"), false, (SslMode::Require, Trust::Anybody)),
            (Some("require"), true, (SslMode::Require, Trust::Authority)),
            (Some("verify-ca"), false, (SslMode::Require, Trust::Authority)),
            (Some("verify-full"), true, (SslMode::Require, Trust::Host)),
        ] {
            assert_eq!(mode(sslmode, has_root), Ok(expected), "{sslmode:?}");
        }
        assert!(mode(Some("on"), false).is_err());
        let error = connector(Some("verify-full"), Some("/nowhere.pem")).map(|_| ()).unwrap_err();
        assert!(error.starts_with("sslrootcert=/nowhere.pem: "), "{error}");
    }
}
