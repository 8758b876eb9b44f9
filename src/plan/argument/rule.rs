//! What one parameter allows, once its type is known.

use std::cmp::Ordering;

use super::value::Value;
use super::{ARGUMENT_BYTES_MAX, ArgumentError, Mismatch, ParameterType, excerpt};
use crate::config::suggest;
use crate::plan::{Parameter, Presence};

/// What one parameter's values are held to, in its type.
#[derive(Debug)]
pub(super) struct Rule {
    kind: ParameterType,
    minimum: Option<Box<str>>,
    maximum: Option<Box<str>>,
    /// Canonical and sorted; empty when any value is allowed.
    values: Vec<Box<str>>,
    /// Canonical; what is bound when the parameter is not given.
    default: Option<Box<str>>,
}

impl Rule {
    pub(super) fn new(
        parameter: &Parameter,
        kind: ParameterType,
        mismatches: &mut Vec<Mismatch>,
    ) -> Self {
        let name = &parameter.name;
        let mut wrong = |text: String| mismatches.push(Mismatch::of_parameter(name, text));
        let mut rule = Self {
            kind,
            minimum: None,
            maximum: None,
            values: Vec::new(),
            default: None,
        };
        let mut bound = |what: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            if !rule.kind.is_ordered() {
                let values = if let ParameterType::Other(name) = &rule.kind {
                    format!("values of type {name}")
                } else {
                    rule.kind.describe()
                };
                wrong(format!(
                    "parameter `{name}` can not have a {what}: Larder has no order for {values}"
                ));
                return None;
            }
            match Value::parse(&rule.kind, text) {
                Ok(value) => Some(value.text()),
                Err(reason) => {
                    wrong(format!("the {what} of parameter `{name}` {reason}"));
                    None
                }
            }
        };
        let minimum = bound("minimum", &parameter.minimum);
        let maximum = bound("maximum", &parameter.maximum);
        if let (Some(least), Some(greatest)) = (&minimum, &maximum)
            && rule.compare(least, greatest) == Some(Ordering::Greater)
        {
            wrong(format!(
                "parameter `{name}` has a minimum above its maximum, so no value is allowed"
            ));
        }
        (rule.minimum, rule.maximum) = (minimum, maximum);

        let mut values = Vec::with_capacity(parameter.values.len());
        for text in &parameter.values {
            match rule.canonical(parameter, text) {
                Ok(value) => values.push(value),
                Err(reason) => {
                    wrong(format!("a value listed for parameter `{name}` {reason}"));
                }
            }
        }
        values.sort_unstable();
        rule.values = values;

        if let Presence::Default(text) = &parameter.presence {
            match rule.canonical(parameter, text) {
                Ok(value) => rule.default = Some(value),
                Err(reason) => {
                    wrong(format!("the default of parameter `{name}` {reason}"));
                }
            }
        }
        rule
    }

    pub(super) fn kind(&self) -> &ParameterType {
        &self.kind
    }

    /// Whether the endpoint names a value that it takes.
    pub(super) fn is_declared(&self) -> bool {
        self.default.is_some() || !self.values.is_empty() || self.minimum.is_some()
    }

    /// Another value than this one; `at` is the parameter's place. Nothing binds NULL.
    pub(super) fn other_than(&self, text: Option<&str>, at: usize) -> Option<Box<str>> {
        let declared = self.default.iter().chain(&self.values);
        let declared = declared.chain(&self.minimum).chain(&self.maximum);
        let plain = [at + 1, at + 11].map(|number| self.kind.plain(number));
        let mut all = declared.chain(plain.iter().flatten());
        all.find(|value| Some(&***value) != text).cloned()
    }

    /// What is bound for what a request gave.
    pub(super) fn argument(
        &self,
        parameter: &Parameter,
        given: Option<&str>,
    ) -> Result<Option<Box<str>>, ArgumentError> {
        let Some(text) = given else {
            return match parameter.presence {
                Presence::Required => Err(ArgumentError::Missing {
                    name: parameter.name.clone(),
                }),
                Presence::Optional => Ok(None),
                Presence::Default(_) => Ok(self.default.clone()),
            };
        };
        let canonical = self.canonical(parameter, text);
        let invalid = |reason| ArgumentError::Invalid {
            name: parameter.name.clone(),
            reason,
        };
        canonical.map(Some).map_err(invalid)
    }

    /// The canonical text of a value that keeps every rule, or the rest of the sentence that begins
    /// with its parameter.
    fn canonical(&self, parameter: &Parameter, text: &str) -> Result<Box<str>, String> {
        if text.len() > ARGUMENT_BYTES_MAX {
            return Err(format!(
                "must be at most {} KiB long",
                ARGUMENT_BYTES_MAX >> 10
            ));
        }
        // Bytes bound characters, which are slower to count.
        if text.len() > parameter.max_length && text.chars().count() > parameter.max_length {
            return Err(format!(
                "must be at most {} characters long",
                parameter.max_length
            ));
        }
        if text.contains('\0') {
            return Err("must not contain the character NUL".to_owned());
        }
        let value = Value::parse(&self.kind, text)?;
        if let Some(pattern) = parameter.pattern.as_ref().filter(|p| !p.is_match(text)) {
            let pattern = Parameter::written_pattern(pattern);
            return Err(format!("must match `{pattern}`, not {}", excerpt(text)));
        }
        let canonical = value.text();
        if !self.values.is_empty() && self.values.binary_search(&canonical).is_err() {
            // As declared, for canonical texts may read strangely.
            const SHOWN: usize = 20;
            let known = suggest::list(parameter.values.iter().take(SHOWN).map(String::as_str));
            let more = if parameter.values.len() > SHOWN {
                "…"
            } else {
                ""
            };
            return Err(format!(
                "must be one of {known}{more}, not {}",
                excerpt(text)
            ));
        }
        let is = |bound: &Option<Box<str>>, wrong: Ordering| match bound {
            // What can not be compared, as NaN, lies in no range.
            Some(bound) => self
                .compare(&canonical, bound)
                .is_none_or(|order| order == wrong),
            None => false,
        };
        if is(&self.minimum, Ordering::Less) {
            let least = parameter.minimum.as_deref().unwrap_or_default();
            return Err(format!("must be at least {least}, not {}", excerpt(text)));
        }
        if is(&self.maximum, Ordering::Greater) {
            let greatest = parameter.maximum.as_deref().unwrap_or_default();
            return Err(format!("must be at most {greatest}, not {}", excerpt(text)));
        }
        Ok(canonical)
    }

    fn compare(&self, a: &str, b: &str) -> Option<Ordering> {
        let a = Value::parse(&self.kind, a).ok()?;
        let b = Value::parse(&self.kind, b).ok()?;
        a.compare(&b)
    }
}
