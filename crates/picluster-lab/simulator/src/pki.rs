//! Certificates as k3s makes them (pkg/daemons/control/deps/deps.go, rancher/dynamiclistener/cert).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::fault::{Fault, Outcome};
use crate::{clock, files, log, text};

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
    Both,
}

/// Who a certificate names.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) organisations: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) usage: Usage,
}

/// An authority: its certificate and key, in files.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

fn fault(e: rcgen::Error) -> Fault {
    Fault(e.to_string())
}

impl Authority {
    /// Reads the authority, or makes a self-signed one for ten years when a file is missing.
    pub(crate) fn ensure(prefix: &str, certificate: PathBuf, key: PathBuf) -> Outcome<Self> {
        let authority = Self { certificate, key };
        if authority.certificate.exists() && authority.key.exists() {
            return Ok(authority);
        }
        let pair = load_or_make_key(&authority.key)?;
        let name = format!("{prefix}-ca@{}", clock::unix());
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.not_before = clock::now();
        params.not_after = clock::now() + time::Duration::days(3650);
        params.use_authority_key_identifier_extension = false;
        let made = params.self_signed(&pair).map_err(fault)?;
        files::write(
            &authority.certificate,
            made.pem().replace("\r\n", "\n").as_bytes(),
            0o644,
        )?;
        log::info(format!(
            "generated self-signed CA certificate CN={name}: notBefore={} notAfter={}",
            clock::rfc3339(params.not_before),
            clock::rfc3339(params.not_after)
        ));
        Ok(authority)
    }

    /// The certificate, in PEM.
    pub(crate) fn pem(&self) -> Outcome<String> {
        files::read(&self.certificate)
    }

    /// Signs; returns the chain in PEM.
    pub(crate) fn sign(&self, subject: &Subject, key: &KeyPair) -> Outcome<String> {
        let ca_pem = self.pem()?;
        let ca_key = KeyPair::from_pem(&files::read(&self.key)?).map_err(fault)?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(fault)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&subject.name, &subject.organisations);
        params.not_before = not_before(&ca_pem).unwrap_or_else(clock::now);
        params.not_after = clock::now() + time::Duration::days(365);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&{
            let mut serial = text::random::<8>();
            serial[0] &= 0x7f;
            serial
        }));
        params.key_usages = vec![
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.extended_key_usages = match subject.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        for host in &subject.hosts {
            let name = match host.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => match host.as_str().try_into() {
                    Ok(name) => SanType::DnsName(name),
                    Err(_) => continue,
                },
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(key, &issuer).map_err(fault)?;
        Ok(made.pem().replace("\r\n", "\n") + &ca_pem)
    }

    /// Signs into files unless a certificate with the same subject and names is there. Says whether it wrote.
    pub(crate) fn ensure_leaf(
        &self,
        subject: &Subject,
        certificate: &Path,
        key: &Path,
    ) -> Outcome<bool> {
        if key.exists()
            && let Ok(pem) = files::read(certificate)
            && covers(&pem, subject, &self.pem()?)
        {
            return Ok(false);
        }
        let pair = load_or_make_key(key)?;
        files::write(certificate, self.sign(subject, &pair)?.as_bytes(), 0o644)?;
        log::info(format!(
            "certificate CN={} signed by {}",
            subject.name,
            common_name(&self.pem()?).unwrap_or_default()
        ));
        Ok(true)
    }
}

fn distinguished(name: &str, organisations: &[String]) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    for organisation in organisations {
        dn.push(DnType::OrganizationName, organisation.as_str());
    }
    dn.push(DnType::CommonName, name);
    dn
}

/// Reads a key, or makes one.
pub(crate) fn load_or_make_key(path: &Path) -> Outcome<KeyPair> {
    if let Ok(pem) = files::read(path) {
        return KeyPair::from_pem(&pem).map_err(fault);
    }
    let pair = KeyPair::generate().map_err(fault)?;
    files::write(
        path,
        pair.serialize_pem().replace("\r\n", "\n").as_bytes(),
        0o600,
    )?;
    Ok(pair)
}

/// The hash that a token carries: of the file's bytes (pkg/clientaccess/token.go).
pub(crate) fn ca_hash(pem: &str) -> String {
    text::sha256(pem.as_bytes())
}

/// Common name and organisations of a certificate.
pub(crate) fn identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organisations = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
    Some((name, organisations))
}

fn first(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .next()?
        .ok()
        .map(|p| p.contents)
}

fn not_before(pem: &str) -> Option<time::OffsetDateTime> {
    let der = first(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    time::OffsetDateTime::from_unix_timestamp(certificate.validity().not_before.timestamp()).ok()
}

fn common_name(pem: &str) -> Option<String> {
    Some(format!("CN={}", identity(&first(pem)?)?.0))
}

/// Whether a certificate still says all that it should, is signed by this authority, and has 120 days left.
fn covers(pem: &str, subject: &Subject, ca_pem: &str) -> bool {
    let check = || -> Option<bool> {
        let der = first(pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let (name, organisations) = identity(&der)?;
        let ca = first(ca_pem)?;
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let present: Vec<String> = names
            .map(|n| {
                n.value
                    .general_names
                    .iter()
                    .filter_map(|g| match g {
                        x509_parser::extensions::GeneralName::DNSName(d) => Some((*d).to_owned()),
                        x509_parser::extensions::GeneralName::IPAddress(b) => match b.len() {
                            4 => <[u8; 4]>::try_from(*b)
                                .ok()
                                .map(|b| IpAddr::from(b).to_string()),
                            16 => <[u8; 16]>::try_from(*b)
                                .ok()
                                .map(|b| IpAddr::from(b).to_string()),
                            _ => None,
                        },
                        _ => None,
                    })
                    .collect()
            })
            .unwrap_or_default();
        let left = certificate.validity().not_after.timestamp() - clock::now().unix_timestamp();
        Some(
            name == subject.name
                && organisations == subject.organisations
                && subject.hosts.iter().all(|h| present.contains(h))
                && certificate.issuer().to_string() == ca.subject().to_string()
                && certificate.verify_signature(Some(ca.public_key())).is_ok()
                && left > 120 * 86400,
        )
    };
    check().unwrap_or(false)
}

/// A fresh key and its certificate, as an answer to a node: chain, then key, in PEM.
pub(crate) fn issue(authority: &Authority, subject: &Subject) -> Outcome<String> {
    let key = KeyPair::generate().map_err(fault)?;
    Ok(authority.sign(subject, &key)? + &key.serialize_pem().replace("\r\n", "\n"))
}

/// Splits an answer of [`issue`] into certificates and key.
pub(crate) fn split(pem: &str) -> (String, String) {
    let (mut certificates, mut key) = (String::new(), String::new());
    let mut block = String::new();
    for line in pem.lines() {
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END") {
            if line.contains("PRIVATE KEY") {
                key.push_str(&block)
            } else {
                certificates.push_str(&block)
            }
            block.clear();
        }
    }
    (certificates, key)
}
