//! The typed values of one request, and the constraints under which text becomes them.
//!
//! A [`Signature`] holds an endpoint's parameters with the types that Postgres described. It turns what a
//! client sent into [`Arguments`]: canonical text for each parameter, so that two spellings of one value
//! are one key. Values are bound as text of the described type, never spliced into SQL.
//!
//! Larder accepts less than Postgres where a meaning depends on settings or on the clock: neither
//! `01/02/03` nor `tomorrow` is a date here.

mod constraints; // what one parameter allows
mod error; // what can be wrong with arguments and declarations, in words
mod number; // integers, floats and decimals as clients write them
mod parameter_type; // the types that Larder can check
mod time; // dates and times as clients write them
mod value; // a text read as a value of its type

use std::borrow::Cow;

pub use error::{ArgumentError, Mismatch};
pub use parameter_type::ParameterType;

use super::run_as::{CallerValues, ListedError};
use super::{Endpoint, Parameter, Place, RunAs, UnknownParameters};
use constraints::Constraints;
use error::shortened;

/// The arguments of one request in the order of the statement's `$1`…; `None` binds NULL. Behind them are the
/// values of the caller, if `run_as` makes answers depend on it.
///
/// Canonical: equal values are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Arguments(Box<[Option<Box<str>>]>);

impl Arguments {
    /// The arguments of an endpoint without parameters.
    pub fn none() -> Self {
        Self::default()
    }

    /// Arguments from texts that are canonical already.
    pub(super) fn new(values: Vec<Option<Box<str>>>) -> Self {
        Self(values.into_boxed_slice())
    }

    /// The texts to bind.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter().map(Option::as_deref)
    }

    /// With the values of the caller that `run_as` needs: they are not bound to the statement.
    #[must_use]
    pub fn with_caller(self, values: CallerValues) -> Self {
        if values.is_empty() {
            return self;
        }
        let mut all = self.0.into_vec();
        all.extend(values.into_iter().map(Some));
        Self(all.into_boxed_slice())
    }

    /// The values of the caller behind those of the statement's `parameters`.
    pub fn caller_values(&self, parameters: usize) -> impl Iterator<Item = Option<&str>> {
        self.iter().skip(parameters)
    }

    /// The memory that the texts take, in bytes.
    pub fn size(&self) -> usize {
        self.0
            .iter()
            .map(|v| size_of::<Option<Box<str>>>() + v.as_ref().map_or(0, |t| t.len()))
            .sum()
    }
}

/// An endpoint's parameters with the types that Postgres described.
#[derive(Debug)]
pub struct Signature {
    constraints: Vec<Constraints>,
}

impl Signature {
    /// The endpoint's parameters with their types, in the order of the statement's `$1`…
    ///
    /// # Errors
    /// A [`Mismatch`] for every default, limit and listed value that is not valid for its type.
    pub fn new(endpoint: &Endpoint, types: Vec<ParameterType>) -> Result<Self, Vec<Mismatch>> {
        if types.len() != endpoint.parameters.len() {
            return Err(vec![Mismatch::of_statement(format!(
                "the statement takes {} parameters, but the endpoint declares {}",
                types.len(),
                endpoint.parameters.len()
            ))]);
        }
        let mut mistakes = Vec::new();
        let constraints = endpoint
            .parameters
            .iter()
            .zip(types)
            .map(|(parameter, kind)| Constraints::new(parameter, kind, &mut mistakes))
            .collect();
        if mistakes.is_empty() {
            Ok(Self { constraints })
        } else {
            Err(mistakes)
        }
    }

    /// The parameters' types, in the order of the statement's `$1`…
    pub fn types(&self) -> impl ExactSizeIterator<Item = &ParameterType> {
        self.constraints.iter().map(Constraints::kind)
    }

    /// The arguments of a key from names and texts, as the operator lists them: claims are named like the
    /// parameters that they fill, and what `run_as` takes from the caller as in [`RunAs::names`]. `endpoint` is
    /// the one this signature was made for.
    ///
    /// # Errors
    /// [`ArgumentError`], for the operator.
    pub fn arguments(
        &self,
        endpoint: &Endpoint,
        path: &[(&str, Cow<'_, str>)],
        query: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<Arguments, ArgumentError> {
        let is_claim = |name: &str| {
            let mut claims = endpoint.parameters.iter().filter(|p| p.place.is_claim());
            claims.any(|parameter| parameter.name == name)
        };
        let is_of_caller = |name: &str| {
            let mut names = endpoint.run_as.iter().flat_map(RunAs::names);
            names.any(|of_caller| of_caller == name)
        };
        let (caller, query): (Vec<_>, Vec<_>) =
            query.iter().partition(|(name, _)| is_of_caller(name));
        let (claims, query): (Vec<_>, Vec<_>) =
            query.into_iter().partition(|(name, _)| is_claim(name));
        let query = query.into_iter().map(|(name, text)| {
            let (name, text): (&str, &str) = (name, text);
            Ok((Cow::Borrowed(name), Cow::Borrowed(text)))
        });
        let claim = |parameter: &Parameter, _: &str| {
            let mut given = claims.iter().filter(|(name, _)| *name == parameter.name);
            given.next().map(|(_, text)| &**text)
        };
        let arguments = self.read(endpoint, path, query, claim)?;
        let Some(run_as) = &endpoint.run_as else {
            return Ok(arguments);
        };
        let values = run_as.listed_values(|name| {
            let given = caller.iter().find(|(given, _)| given == name);
            given.map(|(_, text)| &**text)
        });
        let values = values.map_err(|ListedError { name, reason }| match reason {
            Some(reason) => ArgumentError::Invalid { name, reason },
            None => ArgumentError::Missing { name },
        })?;
        Ok(arguments.with_caller(values))
    }

    /// The arguments of a request, from the names and percent-decoded values in its path, its query string,
    /// which is decoded on the way, and `claim`, which returns what its credential says for a parameter and the
    /// name of its claim. Reading stops at the first error, so a long query string costs nothing more.
    ///
    /// # Errors
    /// [`ArgumentError`], for the client that sent them, and what is wrong with the query string.
    pub fn read<'q, E: From<ArgumentError>>(
        &self,
        endpoint: &'q Endpoint,
        path: &'q [(&str, Cow<'_, str>)],
        query: impl Iterator<Item = Result<(Cow<'q, str>, Cow<'q, str>), E>>,
        claim: impl Fn(&'q Parameter, &str) -> Option<&'q str>,
    ) -> Result<Arguments, E> {
        let declared = |name: &str, place: &Place| {
            endpoint
                .parameters
                .iter()
                .position(|p| p.place == *place && p.name == name)
        };
        let mut given: Vec<Option<Cow<'q, str>>> = vec![None; self.constraints.len()];
        for (name, text) in path {
            if let Some(slot) = declared(name, &Place::Path).and_then(|i| given.get_mut(i)) {
                *slot = Some(Cow::Borrowed(text));
            }
        }
        for pair in query {
            let (name, text) = pair?;
            match declared(&name, &Place::Query).and_then(|i| given.get_mut(i)) {
                Some(slot @ None) => *slot = Some(text),
                Some(Some(_)) => {
                    let name = name.into_owned();
                    return Err(ArgumentError::Repeated { name }.into());
                }
                None => match endpoint.unknown_parameters {
                    UnknownParameters::Ignore => {}
                    UnknownParameters::Reject => return Err(unknown(endpoint, &name).into()),
                },
            }
        }
        for (parameter, slot) in endpoint.parameters.iter().zip(&mut given) {
            if let Place::Claim(name) = &parameter.place {
                *slot = claim(parameter, name).map(Cow::Borrowed);
            }
        }
        let values = endpoint.parameters.iter().zip(&self.constraints).zip(given);
        let values = values.map(|((parameter, constraints), given)| {
            constraints.argument(parameter, given.as_deref())
        });
        Ok(Arguments::new(values.collect::<Result<_, _>>()?))
    }
}

impl Signature {
    /// Arguments to compare these with, for the same caller: values that the endpoint declares, or ordinary
    /// values of the type, each different from the parameter's own. A second set binds NULL for texts whose meaning only
    /// Postgres knows. Empty if these are what a request without arguments stands for.
    pub fn alternatives(&self, endpoint: &Endpoint, these: &Arguments) -> Vec<Arguments> {
        if self.arguments(endpoint, &[], &[]).as_ref() == Ok(these) {
            return Vec::new();
        }
        let given = || self.constraints.iter().zip(these.iter()).enumerate();
        let plain = given().map(|(at, (constraints, text))| constraints.alternative(text, at));
        let bare = given().map(|(at, (constraints, text))| {
            let value = constraints.alternative(text, at);
            value.filter(|_| {
                constraints.declares_a_value() || *constraints.kind() != ParameterType::Text
            })
        });
        let caller = || {
            let values = these.caller_values(self.constraints.len());
            values.map(|value| value.map(Box::from))
        };
        let mut alternatives = vec![
            Arguments::new(plain.chain(caller()).collect()),
            Arguments::new(bare.chain(caller()).collect()),
        ];
        alternatives.dedup();
        alternatives.retain(|arguments| arguments != these);
        alternatives
    }
}

fn unknown(endpoint: &Endpoint, name: &str) -> ArgumentError {
    let known = endpoint
        .parameters
        .iter()
        .filter(|p| p.place == Place::Query);
    ArgumentError::Unknown {
        name: shortened(name),
        known: known.map(|p| p.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
