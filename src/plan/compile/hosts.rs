//! `hosts = [ … ]`

use std::net::Ipv6Addr;

use crate::config::{At, Field, Mistake, Report};
use crate::plan::HostName;

const HELP: &str = "for example hosts = [\"api.example\", \"10.0.0.5:8080\", \"[::1]\"]";

/// The names that the server answers to; `None` for any name.
pub(super) fn names(field: &Field<Vec<At<String>>>, report: &mut Report) -> Option<Vec<HostName>> {
    let hosts = field.given()?;
    if hosts.value.is_empty() {
        let mistake =
            Mistake::new("`hosts` is empty").at(&hosts.span, "no request would be answered");
        report.push(mistake.help("list some, or remove `hosts`"));
    }
    let names = hosts.value.iter().filter_map(|host| {
        let name = HostName::read(&host.value);
        if name.is_none() {
            let mistake = Mistake::new("this is not a host name");
            let what = "expected a name or an IP address, with or without a port";
            report.push(mistake.at(&host.span, what).help(HELP));
        }
        name
    });
    Some(names.collect())
}

impl HostName {
    /// Parses `host` or `host:port`.
    pub fn read(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(is_of_name),
        };
        let port = match port {
            // RFC 3986, 3.2.3: a port may be empty.
            None | Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            Some(_) => return None,
        };
        is_host.then_some(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed_as_clients_send_them() {
        let name = |host: &str, port| {
            let host = host.to_owned();
            Some(HostName { host, port })
        };
        for (text, expected) in [
            ("api.example", name("api.example", None)),
            ("API.Example.:8080", name("api.example", Some(8080))),
            ("api.example:", name("api.example", None)),
            ("127.0.0.1:80", name("127.0.0.1", Some(80))),
            ("[::1]", name("[::1]", None)),
            ("[2001:DB8::1]:443", name("[2001:db8::1]", Some(443))),
            ("", None),
            (".", None),
            (":80", None),
            ("::1", None),
            ("[::1", None),
            ("[nine]", None),
            ("a:b", None),
            ("a:+1", None),
            ("a:65536", None),
            ("https://api.example", None),
            ("api.example/", None),
            ("user@api.example", None),
            ("*.example", None),
            ("bücher.example", None),
        ] {
            assert_eq!(HostName::read(text), expected, "{text}");
        }
    }
}
