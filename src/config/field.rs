//! A key's value as it was read, before anything is known about its meaning.

use super::source::At;

/// A key's value, or why there is none.
#[derive(Debug, Clone, Default)]
pub enum Field<T> {
    /// The key is absent.
    #[default]
    Absent,
    /// The value has the wrong kind, which has been reported: its absence need not be.
    Wrong,
    /// The value.
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Whether the key is absent.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn or_default(self) -> T
    where
        T: Default,
    {
        match self {
            Self::Given(at) => at.value,
            Self::Absent | Self::Wrong => T::default(),
        }
    }

    pub(super) fn from_option(value: Option<At<T>>) -> Self {
        value.map_or(Self::Wrong, Self::Given)
    }
}

/// What is no declaration in `params`.
#[derive(Debug)]
pub enum WrongParams {
    /// `params` itself is not a table.
    All,
    /// These parameters are not tables.
    Named(Vec<String>),
}

/// Names, and the texts of each one's list of scalars.
pub type NamedLists = Vec<(At<String>, At<Vec<At<String>>>)>;

/// One table of `warm`: names and the texts of scalars.
pub type NamedTexts = Vec<(At<String>, At<String>)>;
