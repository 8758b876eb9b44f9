//! What the operator meant: a [`Plan`] can not be wrong. [`Plan::compile`] reports every mistake of a
//! configuration at once. Pure: no I/O, no clock, no Postgres.

pub mod argument;
pub mod endpoint;
pub mod freshness;
pub mod parameter;
mod quantity;
pub mod route;
pub mod schedule;
pub mod settings;
pub mod sql;

pub use argument::{ArgumentError, Arguments, ParameterType, Signature};
pub use endpoint::{Endpoint, EndpointId, Shape, UnknownParameters};
pub use freshness::{FreshnessPolicy, Lifetime, OnMiss};
pub use parameter::{Parameter, Place, Presence};
pub use route::{PathPattern, Routed};
pub use schedule::{CronLine, Refresh};
pub use settings::{CacheSettings, RepositorySettings, ServerSettings};
pub use sql::Statement;
