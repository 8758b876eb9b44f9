//! What a hit costs.

use crate::callgrind::Counted;

/// The cost of one hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Cost {
    pub(crate) fn per_hit(counted: &Counted, hits: usize) -> Self {
        let each = |count: u64| count as f64 / hits as f64;
        Self {
            instructions: each(counted.instructions),
            allocations: each(counted.allocations),
        }
    }
}
