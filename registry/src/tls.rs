//! TLS: who is trusted, and who asks.
//!
//! Trusted are the machine's authorities, `SSL_CERT_FILE` and `SSL_CERT_DIR` included, those that are kept for the host, and each
//! certificate among them itself: many a private registry has one that vouches for nobody but itself, made by one call of `openssl`.

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::certificates::HostCertificates;
use crate::handshake::is_authority;

/// Puts connections under TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Whether any certificate will do.
    unverified: bool,
    certificates: Option<Arc<HostCertificates>>,
    /// Made when a connection needs them.
    settings: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(unverified: bool, certificates: Option<Arc<HostCertificates>>) -> Self {
        Tls {
            unverified,
            certificates,
            settings: OnceLock::new(),
        }
    }

    fn settings(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(made) = self.settings.get() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(settings(self.unverified, self.certificates.as_deref())?);
        Ok(Arc::clone(self.settings.get_or_init(|| made)))
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Secured>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| Error::Tls("no certificate can be for such a name"))?;
        let mut session = ClientConnection::new(self.settings()?, name)?;
        let clock = Arc::clone(&details.current_time);
        let mut line = TransportAdapter::new(transport.boxed(), clock);
        line.set_timeout(details.timeout);
        session.complete_io(&mut line)?;
        let config = details.config;
        Ok(Some(Either::B(Secured {
            stream: StreamOwned::new(session, line),
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        })))
    }
}

/// A connection under TLS.
pub(crate) struct Secured {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

fn settings(
    unverified: bool,
    certificates: Option<&HostCertificates>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let known = match unverified {
        true => None,
        false => Some(Known::of(certificates, &provider)?),
    };
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        known,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let own = certificates.and_then(|kept| kept.own.clone());
    Ok(match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
    })
}

/// Whom a connection is taken for. Any host has to have the key of the certificate that it shows.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` takes any certificate.
    known: Option<Known>,
}

/// Hosts that somebody known vouches for, and those with a certificate that is known itself.
#[derive(Debug)]
struct Known {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Known {
    fn of(kept: Option<&HostCertificates>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut certificates = rustls_native_certs::load_native_certs().certs;
        if let Some(kept) = kept {
            certificates.extend(kept.authorities.iter().cloned());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let none = "there are no certificate authorities here: install `ca-certificates`, or set `SSL_CERT_FILE`";
        Ok(Known {
            authorities: authorities.build().map_err(|_| Error::Tls(none))?,
            certificates,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(known) = &self.known else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = known.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // Its dates were looked at before. Who would vouch for it is known to do so.
            Err(TlsError::InvalidCertificate(error))
                if is_authority(&error) && known.certificates.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
