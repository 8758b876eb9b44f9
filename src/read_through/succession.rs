//! Another plan in place of this one. What it declares alike keeps its entries, its loads and its failures, and is
//! judged by the new policy.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::{Planned, ReadThrough, Source, statement_key};
use crate::cache::{Entry, Key};
use crate::mutex::lock;
use crate::plan::{Endpoint, EndpointId, Lifetime, Plan};

/// Cancelled when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Ended(CancellationToken);

impl Ended {
    fn token(&self) -> &CancellationToken {
        &self.0
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<S: Source> ReadThrough<S> {
    /// The engine for a plan that [follows](Plan::following) this one's. It loads what it is asked for; what both
    /// plans have is judged by the policy of this one until [`Self::succeed`].
    #[must_use]
    pub fn following(&self, plan: Arc<Plan>, source: S) -> Self {
        let state = |endpoint: &Endpoint| {
            let known = self.planned.endpoints.get(endpoint.id);
            known.map_or_else(Arc::default, Arc::clone)
        };
        self.engine.cache.prepare(&plan);
        Self {
            planned: Arc::new(Planned {
                endpoints: plan.per_endpoint(state),
                successor: OnceLock::new(),
                ended: Ended::default(),
                plan,
                source,
            }),
            engine: Arc::clone(&self.engine),
        }
    }

    /// Judges all entries by this plan's policy from now on, those of loads that `previous` has running included.
    /// Visits every entry.
    pub fn succeed(&self, previous: &Self) {
        self.engine.cache.follow(&self.planned.plan);
        // From here on, loads of the previous plan judge their entries again when they end.
        let _ = previous.planned.successor.set(self.clone());
        let changed: HashSet<EndpointId> = self
            .planned
            .plan
            .endpoints()
            .iter()
            .filter(|endpoint| {
                let before = previous.planned.plan.find(endpoint.id);
                before.is_some_and(|before| !endpoint.is_served_like(before))
            })
            .map(|endpoint| endpoint.id)
            .collect();
        for endpoint in &changed {
            let key = statement_key(*endpoint);
            if let Some(entry) = self.engine.cache.get(&key) {
                previous.judge_again(&key, &entry);
            }
        }
        if changed.iter().all(|id| self.endpoint(*id).is_resident()) {
            return;
        }
        self.engine.cache.for_each_keyed(|key, entry| {
            if changed.contains(&key.endpoint()) {
                previous.judge_again(key, entry);
            }
        });
    }

    /// Gives an entry that this plan judged the limits of the plan that succeeded it, if one did.
    pub(super) fn judge_again(&self, key: &Key, entry: &Entry) {
        let Some(mut successor) = self.planned.successor.get() else {
            return;
        };
        while let Some(latest) = successor.planned.successor.get() {
            successor = latest;
        }
        let id = key.endpoint();
        let Some(endpoint) = successor.planned.plan.find(id) else {
            return;
        };
        let before = self.endpoint(id);
        if !endpoint.is_served_like(before) {
            let lifetime = successor.lifetime_after(before, endpoint, entry);
            successor.engine.cache.set_lifetime(key, entry, lifetime);
        }
    }

    /// The limits of an entry of `before` under `endpoint`, which replaced it.
    fn lifetime_after(&self, before: &Endpoint, endpoint: &Endpoint, entry: &Entry) -> Lifetime {
        let is_known =
            before.freshness.max_age.is_none() && before.refresh.has_schedule_of(&endpoint.refresh);
        let until_refresh = if is_known {
            Some(entry.lifetime().advertised)
        } else {
            let due = *lock(&self.state(endpoint.id).due);
            due.map(|due| due.saturating_duration_since(entry.began()))
        };
        endpoint.freshness.lifetime(until_refresh, endpoint.timeout)
    }

    /// Gives up this handle. Returns what ends with the last request and load of this plan, and the endpoints that
    /// `successor` does not have.
    pub fn into_end(
        self,
        successor: &Self,
    ) -> (impl Future<Output = ()> + use<S>, HashSet<EndpointId>) {
        let endpoints = self.planned.plan.endpoints().iter();
        let gone = endpoints
            .map(|endpoint| endpoint.id)
            .filter(|id| successor.planned.plan.find(*id).is_none())
            .collect();
        let ended = self.planned.ended.token().clone();
        (ended.cancelled_owned(), gone)
    }
}
