//! `run_as` of an endpoint.

use crate::config::field::{Field, NamedLists};
use crate::config::reader::Reader;
use crate::config::source::At;

/// `run_as = { … }`
#[derive(Debug)]
pub struct RunAsSection {
    /// `roles`
    pub roles: Field<Vec<At<String>>>,
    /// `role_claim`
    pub role_claim: Field<String>,
    /// `settings`
    pub settings: Field<NamedLists>,
}

impl RunAsSection {
    pub(super) fn read(section: &mut Reader<'_, '_, '_>) -> Field<Self> {
        section.table("run_as", |table| {
            let roles = table.scalars("roles");
            let role_claim = table.string("role_claim");
            let settings = table.named_lists("settings");
            Self {
                roles: table.unless_misspelled("roles", roles),
                role_claim: table.unless_misspelled("role_claim", role_claim),
                settings: table.unless_misspelled("settings", settings),
            }
        })
    }
}
