//! Everything that a result depends on.

use crate::plan::{Arguments, EndpointId};

/// An endpoint with the arguments of a request. Equal keys have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    endpoint: EndpointId,
    arguments: Arguments,
}

impl Key {
    /// The key of a request.
    pub fn new(endpoint: EndpointId, arguments: Arguments) -> Self {
        Self {
            endpoint,
            arguments,
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The arguments.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// Whether this is the only key of its endpoint.
    pub fn is_resident(&self) -> bool {
        self.arguments.iter().len() == 0
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.arguments.size()
    }
}
