//! Whether a certificate is valid for a host, by libpq's rules (fe-secure-common.c and
//! `pgtls_verify_peer_name_matches_certificate_guts`): a subject alternative name has to match, or the common name
//! if there is none of the host's kind.

use std::net::IpAddr;

use rustls::pki_types::ServerName;
use x509_cert::ext::pkix::name::GeneralName;

use super::leaf::Leaf;

/// Whether the certificate is valid for this host.
pub(super) fn is_valid_for(leaf: &Leaf<'_>, host: &ServerName<'_>) -> bool {
    let (text, address) = match host {
        ServerName::DnsName(name) => (name.as_ref().to_owned(), None),
        ServerName::IpAddress(address) => {
            let address = IpAddr::from(*address);
            (address.to_string(), Some(address))
        }
        _ => return false,
    };
    let mut has_own_kind = false;
    for name in &leaf.names {
        let is_it = match name {
            GeneralName::DnsName(name) => {
                has_own_kind |= address.is_none();
                is_name(name.as_bytes(), &text)
            }
            GeneralName::IpAddress(bytes) => {
                has_own_kind |= address.is_some();
                address.is_some_and(|address| is_address(bytes.as_bytes(), address))
            }
            GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::UniformResourceIdentifier(_)
            | GeneralName::RegisteredId(_) => false,
        };
        if is_it {
            return true;
        }
    }
    let common_name = leaf.common_name.as_deref();
    !has_own_kind && common_name.is_some_and(|name| is_name(name, &text))
}

fn is_address(bytes: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => bytes == address.octets(),
        IpAddr::V6(address) => bytes == address.octets(),
    }
}

/// `db.example` matches itself, and `*.example` matches it, but neither matches `a.db.example` or `example`.
fn is_name(pattern: &[u8], host: &str) -> bool {
    let host = host.as_bytes();
    // An authority may have overlooked what follows a zero byte.
    if pattern.contains(&0) {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = pattern.strip_prefix(b"*") else {
        return false;
    };
    let first_dot = host.iter().position(|byte| *byte == b'.');
    let host_domain = first_dot.map(|dot| &host[dot..]);
    domain.len() > 1
        && first_dot != Some(0)
        && host_domain.is_some_and(|of_host| of_host.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label() {
        for (pattern, host, expected) in [
            ("db.example", "db.example", true),
            ("DB.example", "db.EXAMPLE", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*", "example", false),
            ("*.", "example.", false),
            ("d*.example", "db.example", false),
            ("*b.example", "db.example", false),
            ("db.*", "db.example", false),
            ("db.example\0.test", "db.example", false),
            ("", "", true),
        ] {
            assert_eq!(
                is_name(pattern.as_bytes(), host),
                expected,
                "{pattern} {host}"
            );
        }
    }
}
