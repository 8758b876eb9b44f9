//! What an entry holds, in 128 bits: endpoints of two plans with the same fingerprint give the same answers, so an
//! entry of the one may be served by the other.

use xxhash_rust::xxh3::Xxh3Default;

use super::{Endpoint, Place, RunAs};

/// Changes whenever the same rows are encoded as different bytes.
const ENCODING: u8 = 1;

/// A hash of everything in the declaration that an answer depends on, besides the arguments and the data. The path is
/// part of it, because metrics and schedules are kept by path. Not what decides who may ask, when to load, and how
/// long an answer may be served: a new policy applies to old entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// The fingerprint of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let mut parts = Parts(Xxh3Default::new());
        parts.bytes(&[ENCODING]);
        parts.text(endpoint.path.as_str());
        parts.text(endpoint.statement.text());
        parts.text(endpoint.shape.as_str());
        parts.number(endpoint.max_rows);
        parts.number(endpoint.max_bytes);
        parts.number(endpoint.parameters.len() as u64);
        for parameter in &endpoint.parameters {
            parts.text(&parameter.name);
            parts.text(match parameter.place {
                Place::Path => "path",
                Place::Query => "query",
                // Which claim it is decides which key is read, and not what its entry holds.
                Place::Claim(_) => "claim",
            });
            parts.option(parameter.declared_type.as_deref());
        }
        parts.run_as(endpoint.run_as.as_ref());
        Self(parts.0.digest128())
    }
}

/// Parts of unknown length are preceded by it, so that no two lists of parts are the same bytes.
struct Parts(Xxh3Default);

impl Parts {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t String>) {
        self.number(texts.len() as u64);
        texts.for_each(|text| self.text(text));
    }

    fn run_as(&mut self, run_as: Option<&RunAs>) {
        self.number(u64::from(run_as.is_some()));
        let Some(RunAs {
            roles,
            role_claim,
            settings,
        }) = run_as
        else {
            return;
        };
        self.option(role_claim.as_deref());
        // A claim chooses one of several roles, which is then part of the key.
        if role_claim.is_none() {
            self.texts(roles.iter());
        }
        self.number(settings.len() as u64);
        for setting in settings {
            self.text(&setting.name);
            self.texts(setting.claims.iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::compile;

    const ACCESS: &str = "[access]\ndefault = 'public'\n[[access.key]]\nname = 'k'\nsha256 = ['9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08']\n";

    fn of(endpoint: &str) -> Fingerprint {
        let text = format!("repository.url = 'x'\n{ACCESS}[[endpoint]]\n{endpoint}");
        Fingerprint::of(&compile(&text).endpoints()[0])
    }

    #[test]
    fn what_an_answer_depends_on_changes_it_and_a_policy_does_not() {
        let base = "path = '/a/{x}'\nsql = 'SELECT :x::int, :y::int'\nparams.y = { default = 1 }";
        let first = of(base);
        for policy in [
            "max_age = '1m'",
            "timeout = '1s'",
            "max_keys = 7",
            "summary = 'A'",
            "access = { scopes = ['s'] }",
            "cache_control = 'private'",
            "warm = [{ x = 1 }]",
            "params.x = { minimum = 1 }",
        ] {
            assert_eq!(of(&format!("{base}\n{policy}")), first, "{policy}");
        }
        for other in [
            base.replace("/a/", "/b/"),
            base.replace(":y::int", ":y::bigint"),
            base.replace("default = 1", "default = 1, type = 'bigint'"),
            format!("{base}\nshape = 'columns'"),
            format!("{base}\nmax_rows = 7"),
            format!("{base}\nmax_bytes = '7KiB'"),
            format!("{base}\nrun_as = {{ roles = ['r'] }}"),
            format!("{base}\nrun_as = {{ roles = ['s'] }}"),
        ] {
            assert_ne!(of(&other), first, "{other}");
        }
        let role = |role: &str| of(&format!("{base}\nrun_as = {{ roles = ['{role}'] }}"));
        assert_ne!(role("r"), role("s"));
    }
}
