//! Every option of libpq (of Postgres 18's `PQconninfoOptions`), and what becomes of it here. What a
//! user may rely on is never taken without effect.

use std::collections::BTreeMap;

use super::text::Pairs;

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// Any text means something here.
    Text,
    /// A whole number.
    Number,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these. libpq knows others, and this is why they are not taken.
    Of(&'static [&'static str], &'static str),
    /// It is about what Larder does not do, or does in any case: all values are as good.
    Ignored,
    /// It asks for what Larder cannot do; the way out.
    Refused(&'static str),
}

use Use::{Ignored, Number, Of, OneOf, Refused, Text};

const BOOLEAN: &[&str] = &["0", "1"];
const TLS_VERSIONS: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
const WRITE_PASSWORD: &str = "write the password itself";
const NO_OAUTH: &str = "OAuth is not supported; use a password or a client certificate";
const NO_GSS: &str = "GSSAPI is not supported";

const OPTIONS: [(&str, Use); 54] = [
    (
        "service",
        Refused("write what the service's file says of it"),
    ),
    (
        "servicefile",
        Refused("write what the file says of the service"),
    ),
    ("user", Text),
    ("password", Text),
    ("passfile", Text), // not read, and not needed with a password
    ("channel_binding", OneOf(&["disable", "prefer", "require"])),
    ("connect_timeout", Number),
    ("dbname", Text),
    ("host", Text),
    ("hostaddr", Text),
    ("port", Text),
    (
        "client_encoding",
        Of(
            &[
                "auto", "UTF8", "UTF-8", "utf8", "utf-8", "unicode", "UNICODE",
            ],
            "answers are UTF-8, whatever the database's own encoding is",
        ),
    ),
    ("options", Text),
    ("application_name", Text),
    ("fallback_application_name", Text),
    ("keepalives", Number),
    ("keepalives_idle", Number),
    ("keepalives_interval", Number),
    ("keepalives_count", Number),
    ("tcp_user_timeout", Number),
    (
        "sslmode",
        OneOf(&[
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ]),
    ),
    ("sslnegotiation", OneOf(&["postgres", "direct"])),
    ("sslcompression", Ignored), // libpq asks OpenSSL for it, which has long refused
    ("sslcert", Text),
    ("sslkey", Text),
    (
        "sslcertmode",
        Of(
            &["disable", "allow"],
            "whether the server asked for a certificate is not seen",
        ),
    ),
    ("sslpassword", Ignored), // for an encrypted key, which is refused with a way out
    ("sslrootcert", Text),
    ("sslcrl", Text),
    ("sslcrldir", Text),
    ("sslsni", OneOf(BOOLEAN)),
    ("sslkeylogfile", Refused("Larder writes no session keys")),
    ("requirepeer", Text), // about sockets
    (
        "require_auth",
        Refused("channel_binding=require insists on SCRAM, with this very server"),
    ),
    ("min_protocol_version", Of(&["3.0"], "Larder speaks 3.0")),
    ("max_protocol_version", OneOf(&["3.0", "3.2", "latest"])),
    ("ssl_min_protocol_version", OneOf(TLS_VERSIONS)),
    ("ssl_max_protocol_version", OneOf(TLS_VERSIONS)),
    ("gssencmode", Of(&["disable", "prefer"], NO_GSS)),
    ("krbsrvname", Ignored),
    ("gsslib", Ignored),
    ("gssdelegation", Of(&["0"], NO_GSS)),
    (
        "replication",
        Of(
            &["false", "off", "no", "0"],
            "Larder runs queries, and those need an ordinary session",
        ),
    ),
    (
        "target_session_attrs",
        Of(
            &["any", "read-write", "read-only"],
            "primary, standby and prefer-standby are not supported",
        ),
    ),
    ("load_balance_hosts", OneOf(&["disable", "random"])),
    ("scram_client_key", Refused(WRITE_PASSWORD)),
    ("scram_server_key", Refused(WRITE_PASSWORD)),
    ("oauth_issuer", Refused(NO_OAUTH)),
    ("oauth_client_id", Refused(NO_OAUTH)),
    ("oauth_client_secret", Refused(NO_OAUTH)),
    ("oauth_scope", Refused(NO_OAUTH)),
    // tokio-postgres's own name.
    ("keepalives_retries", Number),
    // Until Postgres 14, without effect.
    ("authtype", Ignored),
    ("tty", Ignored),
];

/// Options of other clients, and where Larder has what they are for.
const OF_OTHERS: [(&str, &str); 9] = [
    ("ssl", "write sslmode=require, or verify-full"),
    ("schema", "write options=-csearch_path%3D and its name"),
    (
        "currentSchema",
        "write options=-csearch_path%3D and its name",
    ),
    ("search_path", "write options=-csearch_path%3D and its name"),
    ("statement_timeout", "it is a key of [repository]"),
    (
        "connection_limit",
        "max_connections of [repository] is the limit",
    ),
    ("max_connections", "it is a key of [repository]"),
    (
        "pool_max_conns",
        "max_connections of [repository] is the limit",
    ),
    ("pool_timeout", "an endpoint's timeout is the limit"),
];

/// The options that were given and mean something, by name. Values are right for their options.
#[derive(Default)]
pub(super) struct Options(BTreeMap<&'static str, Vec<u8>>);

impl Options {
    /// The reasons name known options, and never a value: a password that is not encoded may have
    /// become both.
    pub(super) fn of(pairs: Pairs) -> Result<Self, String> {
        let mut options = Self::default();
        for (position, (name, value)) in pairs.into_iter().enumerate() {
            let Some((name, usage)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(position + 1, &name));
            };
            // As good as not given, to libpq.
            if value.is_empty() {
                continue;
            }
            options.take(name, *usage, &value)?;
        }
        Ok(options)
    }

    fn take(&mut self, name: &'static str, usage: Use, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value);
        if name != "password" && text.is_err() {
            return Err(format!("{name} is not UTF-8"));
        }
        let text = text.unwrap_or_default();
        match usage {
            Text => {}
            Number if text.trim().parse::<i32>().is_ok() => {}
            Number => return Err(format!("{name} is not a whole number")),
            OneOf(values) if values.contains(&text) => {}
            OneOf(values) => return Err(format!("{name} is none of {}", values.join(", "))),
            Of(values, _) if values.contains(&text) => {}
            Of(values, why) => {
                return Err(format!("{name} is none of {}: {why}", values.join(", ")));
            }
            Ignored => return Ok(()),
            Refused(way_out) => return Err(format!("{name} is not supported: {way_out}")),
        }
        let several = matches!(name, "host" | "hostaddr" | "port");
        let kept = self.0.entry(name).or_default();
        if several && !kept.is_empty() {
            kept.push(b',');
        } else {
            kept.clear();
        }
        kept.extend_from_slice(value);
        Ok(())
    }

    /// A value as it was given, of a password above all.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        debug_assert!(OPTIONS.iter().any(|(known, _)| *known == name));
        self.0.get(name).map(Vec::as_slice)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// A number that says something: none below 1 does, to libpq.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let number = self.text(name)?.trim().parse().ok()?;
        (number > 0).then_some(number)
    }
}

fn unknown(position: usize, name: &str) -> String {
    if let Some((name, way_out)) = OF_OTHERS.iter().find(|(known, _)| *known == name) {
        return format!("{name} is no option of libpq: {way_out}");
    }
    // The name is not repeated: a password that is not encoded may have become it.
    format!(
        "the name of option {position} in it is none of libpq's: it is misspelled, or a value before it \
         is neither percent-encoded (in a URL) nor quoted (in words)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_once() {
        for (at, (name, _)) in OPTIONS.iter().enumerate() {
            assert!(
                !OPTIONS[..at].iter().any(|(other, _)| other == name),
                "{name}"
            );
        }
    }

    #[test]
    fn wrong_values_are_refused_without_repeating_them() {
        for (name, usage) in OPTIONS {
            let take = |value: &str| {
                let pairs = vec![(name.to_owned(), value.as_bytes().to_vec())];
                Options::of(pairs).map(|options| options.text(name).map(str::to_owned))
            };
            let wrong = take("hunter2");
            let right: Vec<&str> = match usage {
                Text => vec!["hunter2"],
                Number => vec!["5", " 5 "],
                OneOf(values) | Of(values, _) => values.to_vec(),
                Ignored | Refused(_) => vec![],
            };
            for value in &right {
                assert_eq!(take(value).unwrap().as_deref(), Some(*value), "{name}");
            }
            assert_eq!(take("").unwrap(), None, "{name}");
            match usage {
                Text => assert!(wrong.is_ok(), "{name}"),
                Ignored => assert_eq!(wrong.unwrap(), None, "{name}"),
                Number | OneOf(_) | Of(..) | Refused(_) => {
                    let wrong = wrong.unwrap_err();
                    assert!(
                        wrong.starts_with(name) && !wrong.contains("hunter2"),
                        "{wrong}"
                    );
                }
            }
        }
    }
}
