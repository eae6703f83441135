//! Certificates for one test.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A server's certificate and key, PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Makes an authority, writes its certificate to `file`, and answers a server's identity for `name` that it signed.
pub fn signed(file: &Path, name: &str) -> Identity {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    std::fs::write(file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}
