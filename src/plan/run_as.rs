//! Row-level security: the role and the settings that a load runs with. What depends on the caller is part of
//! the key, so no answer is served to a caller with another role or other claims.
//!
//! The names come from the configuration. A credential chooses among the roles that it lists, and fills the
//! settings with the claims that it lists.

use std::borrow::Cow;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::claim::{Claim, write_object};
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
        claim: impl Fn(&str) -> Option<&'c Claim>,
    ) -> Result<CallerValues, &str> {
        let mut values = CallerValues::new();
        if let Some(name) = &self.role_claim {
            let role = claim(name).and_then(|role| self.allowed_role(role.as_text()));
            values.push(role.ok_or(name.as_str())?.into());
        }
        for setting in &self.settings {
            let members = setting.claims.iter().map(|name| {
                let value = claim(name).ok_or(name.as_str())?;
                Ok((name.as_str(), value))
            });
            let members = members.collect::<Result<Vec<_>, &str>>()?;
            let first = setting.claims.first().map_or("", String::as_str);
            values.push(object(members).ok_or(first)?);
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
        let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
            return Err(wrong());
        };
        let members = given.iter().filter_map(|(name, json)| {
            let claim = Claim::from_json(json.get())?;
            Some((name.as_str(), claim))
        });
        // Both are sorted.
        let members: Vec<_> = members.collect();
        if !members.iter().map(|(name, _)| *name).eq(&self.claims) {
            return Err(wrong());
        }
        object(members.iter().map(|(name, claim)| (*name, claim))).ok_or_else(wrong)
    }
}

/// Claims as a JSON object; `None` if it is too long for a key.
fn object<'c>(claims: impl IntoIterator<Item = (&'c str, &'c Claim)>) -> Option<Box<str>> {
    let mut object = String::new();
    write_object(claims, &mut object, Claim::write_json);
    (object.len() <= ARGUMENT_BYTES_MAX).then(|| object.into_boxed_str())
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
mod tests;
