//! Every connection option of libpq (`PQconninfoOptions` in Postgres 18), and what Larder does with it. An
//! option that a user may rely on is never ignored.

use std::collections::BTreeMap;

use super::text::Pairs;

/// What Larder does with an option.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// Any text is valid.
    Text,
    /// A whole number.
    Number,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these. libpq knows others; the text says why Larder does not accept them.
    Of(&'static [&'static str], &'static str),
    /// It has no effect: it is about something that Larder never does, or always does.
    Ignored,
    /// It is not supported; the text names an alternative.
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
        Refused("write the settings of that service instead"),
    ),
    (
        "servicefile",
        Refused("write the settings of the service instead"),
    ),
    ("user", Text),
    ("password", Text),
    ("passfile", Text), // not read; an error unless there is a password
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
            "responses are UTF-8, whatever the encoding of the database",
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
    ("sslcompression", Ignored), // OpenSSL has long refused it
    ("sslcert", Text),
    ("sslkey", Text),
    (
        "sslcertmode",
        Of(
            &["disable", "allow"],
            "Larder does not know whether the server asked for a certificate",
        ),
    ),
    ("sslpassword", Ignored), // for an encrypted key, which is rejected with advice
    ("sslrootcert", Text),
    ("sslcrl", Text),
    ("sslcrldir", Text),
    ("sslsni", OneOf(BOOLEAN)),
    (
        "sslkeylogfile",
        Refused("Larder does not write session keys"),
    ),
    ("requirepeer", Text), // checked in `url`
    (
        "require_auth",
        Refused("use channel_binding=require, which insists on SCRAM"),
    ),
    (
        "min_protocol_version",
        Of(&["3.0"], "Larder uses protocol version 3.0"),
    ),
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
            "Larder runs queries, which need an ordinary session",
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

/// Options of other clients, and Larder's equivalents.
const OF_OTHERS: [(&str, &str); 9] = [
    ("ssl", "use sslmode=require or verify-full"),
    (
        "schema",
        "use options=-csearch_path%3D followed by the name",
    ),
    (
        "currentSchema",
        "use options=-csearch_path%3D followed by the name",
    ),
    (
        "search_path",
        "use options=-csearch_path%3D followed by the name",
    ),
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

/// The options that are given and have an effect, by name, with valid values.
#[derive(Default)]
pub(super) struct Options(BTreeMap<&'static str, Vec<u8>>);

impl Options {
    /// Errors name only known options, and no values: an unencoded password may have become either.
    pub(super) fn of(pairs: Pairs) -> Result<Self, String> {
        let mut options = Self::default();
        for (position, (name, value)) in pairs.into_iter().enumerate() {
            let Some((name, usage)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(position + 1, &name));
            };
            // libpq treats an empty value as missing.
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
            OneOf(values) => return Err(format!("{name} is not one of {}", values.join(", "))),
            Of(values, _) if values.contains(&text) => {}
            Of(values, why) => {
                return Err(format!("{name} is not one of {}: {why}", values.join(", ")));
            }
            Ignored => return Ok(()),
            Refused(alternative) => return Err(format!("{name} is not supported: {alternative}")),
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

    /// A value as it was given, such as a password.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        debug_assert!(OPTIONS.iter().any(|(known, _)| *known == name));
        self.0.get(name).map(Vec::as_slice)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// A number above 0; libpq treats others as missing.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let number = self.text(name)?.trim().parse().ok()?;
        (number > 0).then_some(number)
    }
}

fn unknown(position: usize, name: &str) -> String {
    if let Some((name, equivalent)) = OF_OTHERS.iter().find(|(known, _)| *known == name) {
        return format!("{name} is not a libpq option: {equivalent}");
    }
    // The name is not repeated: an unencoded password may have become it.
    format!(
        "the name of option {position} is not one of libpq's: it is misspelled, or a value before it has to be \
         percent-encoded (in a URL) or quoted (in key=value form)"
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
    fn wrong_values_are_rejected_without_being_repeated() {
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
