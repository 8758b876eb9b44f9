//! Row-level security: the role and the settings that a load runs with. What depends on the caller is part of
//! the key, so no answer is served to a caller with another role or other claims.
//!
//! The names come from the configuration. A credential chooses among the roles that it lists, and fills the
//! settings with the claims that it lists.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::parameter::ARGUMENT_BYTES_MAX;

/// The name of the role among the arguments of a key that the operator lists.
pub const ROLE_NAME: &str = "run_as";

/// `run_as` of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The roles that a load may run as; at least one, and without `role_claim` exactly one.
    pub roles: Vec<String>,
    /// The claim that chooses among them.
    pub role_claim: Option<String>,
    /// What is set besides the role.
    pub settings: Vec<ClaimSetting>,
}

/// A setting of Postgres that holds claims as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSetting {
    /// Its name, which contains a dot: such a setting has a meaning only for the SQL that reads it.
    pub name: String,
    /// The claims, sorted as text; at least one.
    pub claims: Vec<String>,
}

/// The values of a key that only its caller knows: the role if a claim chooses it, then each setting.
pub type CallerValues = Vec<Box<str>>;

/// Why what an operator lists is not a caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListedError {
    pub(super) name: String,
    /// What it must be, as the rest of a sentence; `None` if it is missing.
    pub(super) reason: Option<String>,
}

impl RunAs {
    /// Whether two callers may get different answers to the same request.
    pub fn depends_on_caller(&self) -> bool {
        self.role_claim.is_some() || !self.settings.is_empty()
    }

    /// The claims that a caller needs.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let settings = self.settings.iter().flat_map(|setting| &setting.claims);
        self.role_claim.iter().chain(settings).map(String::as_str)
    }

    /// What stands for the caller in the arguments that an operator lists.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let role = self.role_claim.as_ref().map(|_| ROLE_NAME);
        let settings = self.settings.iter().map(|setting| setting.name.as_str());
        role.into_iter().chain(settings)
    }

    /// The values of a caller whose credential says `claim`.
    ///
    /// # Errors
    /// The name of a claim that is missing, too long, or not one of the roles.
    pub fn caller_values<'c>(
        &self,
        claim: impl Fn(&str) -> Option<&'c str>,
    ) -> Result<CallerValues, &str> {
        let mut values = CallerValues::new();
        if let Some(name) = &self.role_claim {
            let role = claim(name).and_then(|role| self.allowed_role(role));
            values.push(role.ok_or(name.as_str())?.into());
        }
        for setting in &self.settings {
            let mut object = Map::new();
            for name in &setting.claims {
                let value = claim(name).ok_or(name.as_str())?;
                object.insert(name.clone(), Value::from(value));
            }
            let largest = setting.claims.first().map_or("", String::as_str);
            values.push(canonical(object).ok_or(largest)?);
        }
        Ok(values)
    }

    /// The values of a key that the operator lists: the role under [`ROLE_NAME`], and the JSON of each setting
    /// under its name.
    ///
    /// # Errors
    /// [`ListedError`]
    pub(super) fn listed_values<'t>(
        &self,
        text: impl Fn(&str) -> Option<&'t str>,
    ) -> Result<CallerValues, ListedError> {
        let given = |name: &str| {
            text(name).ok_or_else(|| ListedError {
                name: name.to_owned(),
                reason: None,
            })
        };
        let mut values = CallerValues::new();
        if self.role_claim.is_some() {
            let role = self.allowed_role(given(ROLE_NAME)?);
            let role = role.ok_or_else(|| ListedError {
                name: ROLE_NAME.to_owned(),
                reason: Some("must be one of the roles of `run_as`".to_owned()),
            })?;
            values.push(role.into());
        }
        for setting in &self.settings {
            let value = setting.of_text(given(&setting.name)?);
            values.push(value.map_err(|reason| ListedError {
                name: setting.name.clone(),
                reason: Some(reason),
            })?);
        }
        Ok(values)
    }

    fn allowed_role<'r>(&self, role: &'r str) -> Option<&'r str> {
        self.roles
            .iter()
            .any(|allowed| allowed == role)
            .then_some(role)
    }

    /// The names and values to set for a load with these values: the role first.
    pub fn assignments<'a>(
        &'a self,
        mut values: impl Iterator<Item = Option<&'a str>>,
    ) -> Vec<(&'a str, &'a str)> {
        // Postgres refuses an empty role, should there be no value.
        let mut next = || values.next().flatten().unwrap_or_default();
        let role = match &self.role_claim {
            Some(_) => next(),
            None => self.first_role(),
        };
        let settings = self.settings.iter();
        let settings = settings.map(|setting| (setting.name.as_str(), next()));
        std::iter::once(("role", role)).chain(settings).collect()
    }

    /// The role that statements are described as.
    pub fn first_role(&self) -> &str {
        self.roles.first().map_or("", String::as_str)
    }
}

impl ClaimSetting {
    /// The value that a JSON text stands for; or why it is not one, as the rest of a sentence.
    fn of_text(&self, text: &str) -> Result<Box<str>, String> {
        let example = || {
            let members = self.claims.iter().map(|claim| format!("\"{claim}\": …"));
            members.collect::<Vec<_>>().join(", ")
        };
        let wrong = || format!("must be a JSON object {{{}}}", example());
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return Err(wrong());
        };
        let has_all = self.claims.iter().all(|claim| object.contains_key(claim));
        if !has_all || object.len() != self.claims.len() {
            return Err(wrong());
        }
        canonical(object).ok_or_else(wrong)
    }
}

/// JSON without spaces, whose members are sorted by their names at every depth; `None` if it is too long for a
/// key.
fn canonical(object: Map<String, Value>) -> Option<Box<str>> {
    let mut value = Value::Object(object);
    value.sort_all_objects();
    let text = value.to_string();
    (text.len() <= ARGUMENT_BYTES_MAX).then(|| text.into_boxed_str())
}

/// Whether a text can be a role: `none` and `public` are words of SQL, and Postgres keeps 63 bytes of a name.
pub(super) fn is_role_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.contains('\0') && !matches!(text, "none" | "public")
}

/// Whether Postgres accepts a name for a setting that no module defines: identifiers with dots between them.
/// See `valid_custom_variable_name` in Postgres's guc.c.
pub(super) fn is_setting_name(text: &str) -> bool {
    let is_identifier = |part: &str| {
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let continues = |c: char| starts(c) || c.is_ascii_digit() || c == '$';
        part.starts_with(starts) && part.chars().all(continues)
    };
    text.contains('.') && text.split('.').all(is_identifier)
}

/// A name as messages quote it in SQL.
pub fn quoted(role: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if role.chars().all(is_plain) && !role.starts_with(|c: char| c.is_ascii_digit()) {
        Cow::Borrowed(role)
    } else {
        Cow::Owned(format!("\"{}\"", role.replace('"', "\"\"")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run_as(role_claim: Option<&str>, settings: &[(&str, &[&str])]) -> RunAs {
        let settings = settings.iter().map(|(name, claims)| ClaimSetting {
            name: (*name).to_owned(),
            claims: claims.iter().map(|&claim| claim.to_owned()).collect(),
        });
        RunAs {
            roles: vec!["reader".to_owned(), "Editor".to_owned()],
            role_claim: role_claim.map(str::to_owned),
            settings: settings.collect(),
        }
    }

    const CLAIMS: [(&str, &str); 4] = [
        ("role", "Editor"),
        ("sub", "a \"b\"\u{0}"),
        ("tenant", "5"),
        ("secret", "s"),
    ];

    fn claim(name: &str) -> Option<&'static str> {
        CLAIMS
            .iter()
            .find_map(|(it, text)| (*it == name).then_some(*text))
    }

    #[test]
    fn only_the_listed_claims_are_passed_on_under_configured_names() {
        let run_as = run_as(
            Some("role"),
            &[("a.b", &["sub", "tenant"]), ("c.d", &["tenant"])],
        );
        let values = run_as.caller_values(claim).unwrap();
        let json = r#"{"sub":"a \"b\"\u0000","tenant":"5"}"#;
        let expected = ["Editor", json, r#"{"tenant":"5"}"#];
        assert_eq!(
            values.iter().map(|value| &**value).collect::<Vec<_>>(),
            expected
        );
        let assigned = run_as.assignments(values.iter().map(|value| Some(&**value)));
        let names: Vec<_> = assigned.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["role", "a.b", "c.d"]);
        assert_eq!(
            assigned.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(
            run_as.claims().collect::<Vec<_>>(),
            ["role", "sub", "tenant", "tenant"]
        );
    }

    #[test]
    fn a_caller_without_a_claim_or_with_another_role_has_no_values() {
        let by_role = run_as(Some("role"), &[]);
        for (role, is_allowed) in [
            (Some("reader"), true),
            (Some("Editor"), true),
            (Some("editor"), false),
            (Some("postgres"), false),
            (Some("none"), false),
            (Some(""), false),
            (None, false),
        ] {
            let values = by_role.caller_values(|_| role);
            assert_eq!(values.is_ok(), is_allowed, "{role:?}");
            if !is_allowed {
                assert_eq!(values, Err("role"));
            }
            let listed = by_role.listed_values(|_| role);
            assert_eq!(listed.is_ok(), is_allowed, "{role:?}");
        }
        let of_claims = run_as(None, &[("a.b", &["absent", "sub"])]);
        assert_eq!(of_claims.caller_values(claim), Err("absent"));
        let long = "x".repeat(ARGUMENT_BYTES_MAX);
        assert_eq!(of_claims.caller_values(|_| Some(&long)), Err("absent"));
        assert!(of_claims.depends_on_caller());
        assert!(!run_as(None, &[]).depends_on_caller());
    }

    #[test]
    fn a_listed_key_is_the_key_of_the_caller_that_it_stands_for() {
        let run_as = run_as(Some("role"), &[("a.b", &["sub", "tenant"])]);
        let of = |json: &'static str| {
            run_as.listed_values(move |name| match name {
                ROLE_NAME => Some("reader"),
                "a.b" => Some(json),
                _ => None,
            })
        };
        let caller = run_as.caller_values(|name| Some(if name == "role" { "reader" } else { "x" }));
        let listed = of(" { \"tenant\": \"x\", \"sub\": \"\\u0078\" } ");
        assert_eq!(listed.ok(), caller.ok());
        let nested = of(r#"{"sub": {"b": [1.0, {"d": 1, "c": 2}], "a": null}, "tenant": 5}"#);
        assert_eq!(
            &*nested.unwrap()[1],
            r#"{"sub":{"a":null,"b":[1.0,{"c":2,"d":1}]},"tenant":5}"#
        );
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"sub":"x"}"#,
            r#"{"sub":"x","tenant":"x","more":"x"}"#,
        ] {
            let ListedError { name, reason } = of(wrong).unwrap_err();
            assert_eq!(name, "a.b");
            let expected = "must be a JSON object {\"sub\": …, \"tenant\": …}";
            assert_eq!(reason.as_deref(), Some(expected));
        }
    }

    #[test]
    fn names_are_those_that_postgres_accepts() {
        for name in ["request.jwt.claims", "app._x", "a.b$1", "App.Ä", "a.b2.c"] {
            assert!(is_setting_name(name), "{name}");
        }
        for name in [
            "", "role", "a", ".", "a.", ".b", "a..b", "a.1", "1.a", "a.b-c", "a.b c", "a.b\0",
            "a.b'", "a.$b",
        ] {
            assert!(!is_setting_name(name), "{name}");
        }
        let long = "r".repeat(64);
        for (name, is_role) in [
            ("web_user", true),
            ("Web User", true),
            ("None", true),
            ("", false),
            ("none", false),
            ("public", false),
            ("a\0b", false),
            (&long, false),
        ] {
            assert_eq!(is_role_name(name), is_role, "{name}");
        }
        assert_eq!(quoted("web_user"), "web_user");
        assert_eq!(quoted("Web \"User\""), "\"Web \"\"User\"\"\"");
    }

    proptest! {
        #[test]
        fn different_claims_are_different_values(
            one in any::<(String, String)>(),
            other in any::<(String, String)>(),
        ) {
            let run_as = run_as(None, &[("a.b", &["a", "b"])]);
            let values = |(a, b): &(String, String)| {
                let values = run_as.caller_values(|name| Some(if name == "a" { a } else { b }));
                values.unwrap()
            };
            prop_assert_eq!(values(&one) == values(&other), one == other);
        }
    }
}
