//! What one parameter allows, once its type is known.

use std::cmp::Ordering;

use super::error::{ArgumentError, Mismatch, excerpt};
use super::parameter_type::ParameterType;
use super::value::{Value, plus_hint};
use crate::config::suggest;
use crate::plan::parameter::{ARGUMENT_BYTES_MAX, Parameter, Presence};

/// What one parameter allows, in canonical texts of its type.
#[derive(Debug)]
pub(super) struct Constraints {
    kind: ParameterType,
    minimum: Option<Box<str>>,
    maximum: Option<Box<str>>,
    /// Sorted; empty if any value is allowed.
    values: Vec<Box<str>>,
    /// What is bound if the parameter is not given.
    default: Option<Box<str>>,
}

impl Constraints {
    pub(super) fn new(
        parameter: &Parameter,
        kind: ParameterType,
        mismatches: &mut Vec<Mismatch>,
    ) -> Self {
        let name = &parameter.name;
        let mut wrong = |text: String| mismatches.push(Mismatch::of_parameter(name, text));
        let mut constraints = Self {
            kind,
            minimum: None,
            maximum: None,
            values: Vec::new(),
            default: None,
        };
        let mut bound = |what: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            if let Some(unordered) = constraints.kind.unordered_name() {
                wrong(format!(
                    "parameter `{name}` cannot have a {what}: Larder does not compare values of type \
                     {unordered}"
                ));
                return None;
            }
            let value = Value::parse(&constraints.kind, text);
            if value.is_none() {
                let reason = not_a_value(&constraints.kind, &constraints.kind.describe(), text);
                wrong(format!("the {what} of parameter `{name}` {reason}"));
            }
            value.map(|value| value.text())
        };
        let minimum = bound("minimum", &parameter.minimum);
        let maximum = bound("maximum", &parameter.maximum);
        if let (Some(least), Some(greatest)) = (&minimum, &maximum)
            && constraints.compare(least, greatest) == Some(Ordering::Greater)
        {
            wrong(format!(
                "parameter `{name}` has a minimum above its maximum, so no value is allowed"
            ));
        }
        (constraints.minimum, constraints.maximum) = (minimum, maximum);

        let mut values = Vec::with_capacity(parameter.values.len());
        for text in &parameter.values {
            match constraints.canonical(parameter, text) {
                Ok(value) => values.push(value),
                Err(reason) => {
                    wrong(format!("a value listed for parameter `{name}` {reason}"));
                }
            }
        }
        values.sort_unstable();
        constraints.values = values;

        if let Presence::Default(text) = &parameter.presence {
            match constraints.canonical(parameter, text) {
                Ok(value) => constraints.default = Some(value),
                Err(reason) => {
                    wrong(format!("the default of parameter `{name}` {reason}"));
                }
            }
        }
        constraints
    }

    pub(super) fn kind(&self) -> &ParameterType {
        &self.kind
    }

    /// Whether the endpoint declares a value that it accepts.
    pub(super) fn declares_a_value(&self) -> bool {
        self.default.is_some() || !self.values.is_empty() || self.minimum.is_some()
    }

    /// A value other than `text`, for the parameter at index `at`. `None` binds NULL.
    pub(super) fn alternative(&self, text: Option<&str>, at: usize) -> Option<Box<str>> {
        let declared = self.default.iter().chain(&self.values);
        let declared = declared.chain(&self.minimum).chain(&self.maximum);
        let samples = [at + 1, at + 11].map(|number| self.kind.sample(number));
        let mut all = declared.chain(samples.iter().flatten());
        all.find(|value| Some(&***value) != text).cloned()
    }

    /// The text to bind for what a request gave.
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

    /// The canonical text of an allowed value; or what is wrong with it, as the rest of a sentence that
    /// begins with the parameter.
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
            return Err("must not contain the NUL character".to_owned());
        }
        let Some(value) = Value::parse(&self.kind, text) else {
            return Err(not_a_value(&self.kind, &self.allowed(parameter), text));
        };
        if let Some(pattern) = parameter.pattern.as_ref().filter(|p| !p.is_match(text)) {
            let pattern = Parameter::written_pattern(pattern);
            return Err(format!("must match `{pattern}`, not {}", excerpt(text)));
        }
        let canonical = value.text();
        if !self.values.is_empty() && self.values.binary_search(&canonical).is_err() {
            return Err(format!(
                "must be {}, not {}",
                self.allowed(parameter),
                excerpt(text)
            ));
        }
        let is = |bound: &Option<Box<str>>, wrong: Ordering| match bound {
            // NaN cannot be compared, and lies in no range.
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

    /// What a value must be: one of those declared, in the declared range, or any of the type. Values and
    /// limits are quoted as declared, since their canonical texts may look strange.
    fn allowed(&self, parameter: &Parameter) -> String {
        const SHOWN: usize = 20;
        if self.values.is_empty() {
            let minimum = self.minimum.as_ref().and(parameter.minimum.as_deref());
            let maximum = self.maximum.as_ref().and(parameter.maximum.as_deref());
            return self.kind.describe_within(minimum, maximum);
        }
        let values = &parameter.values;
        let shown = suggest::list(values.iter().take(SHOWN).map(String::as_str));
        let more = if values.len() > SHOWN { "…" } else { "" };
        format!("one of {shown}{more}")
    }

    fn compare(&self, a: &str, b: &str) -> Option<Ordering> {
        let a = Value::parse(&self.kind, a)?;
        let b = Value::parse(&self.kind, b)?;
        a.compare(&b)
    }
}

/// The rest of a sentence that begins with what `text` was given for.
fn not_a_value(kind: &ParameterType, allowed: &str, text: &str) -> String {
    let hint = plus_hint(kind, text);
    format!("must be {allowed}, not {}{hint}", excerpt(text))
}
