//! The numbers of endpoints, which are the same in all plans of a process.

use std::collections::{HashMap, HashSet};
use std::ops::Index;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Endpoint, EndpointId, Fingerprint, Plan, Probe, ProbeId};

/// The place in a plan of each number. Numbers of other plans may have none.
#[derive(Debug, Clone)]
pub(super) struct Places {
    by_number: Arc<[u32]>,
    /// How many numbers the process has used. All plans that follow one another share it, also those that are dropped
    /// before they are served: what was loaded for them must not be taken for something else.
    used: Arc<AtomicU32>,
}

/// Stands for no place.
const NONE: u32 = u32::MAX;

impl Places {
    /// Those of a first plan.
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let used = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        Self::of(endpoints, Arc::new(AtomicU32::new(used)))
    }

    fn of(endpoints: &[Endpoint], used: Arc<AtomicU32>) -> Self {
        let numbers = endpoints.iter().map(|endpoint| endpoint.id.number() + 1);
        let mut places = vec![NONE; numbers.max().unwrap_or(0)];
        for (place, endpoint) in endpoints.iter().enumerate() {
            places[endpoint.id.number()] = u32::try_from(place).unwrap_or(NONE);
        }
        Self {
            by_number: places.into(),
            used,
        }
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<usize> {
        let place = *self.by_number.get(id.number())?;
        (place != NONE).then_some(place as usize)
    }
}

/// A value for each endpoint of a plan.
#[derive(Debug)]
pub struct PerEndpoint<T> {
    places: Places,
    values: Box<[T]>,
}

impl<T> PerEndpoint<T> {
    /// The value of an endpoint; `None` if it is not in the plan.
    pub fn get(&self, id: EndpointId) -> Option<&T> {
        self.values.get(self.places.get(id)?)
    }

    /// Likewise, to change it.
    pub fn get_mut(&mut self, id: EndpointId) -> Option<&mut T> {
        self.values.get_mut(self.places.get(id)?)
    }

    /// The values, in the order of the plan.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.values.iter()
    }
}

impl<T> PerEndpoint<Option<T>> {
    /// The values, if each endpoint has one.
    pub fn into_complete(self) -> Option<PerEndpoint<T>> {
        Some(PerEndpoint {
            places: self.places,
            values: self.values.into_iter().collect::<Option<_>>()?,
        })
    }
}

/// For ids of the same plan.
impl<T> Index<EndpointId> for PerEndpoint<T> {
    type Output = T;

    fn index(&self, id: EndpointId) -> &T {
        self.get(id).expect(IN_THE_PLAN)
    }
}

/// How a plan differs from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanChanges {
    /// Endpoints with the path of one before, whose answers are different ones.
    pub changed: usize,
    /// Endpoints with a new path.
    pub added: usize,
    /// Endpoints that are gone.
    pub removed: usize,
    /// Endpoints that kept their entries.
    pub kept: usize,
}

pub(super) const IN_THE_PLAN: &str = "the id is of this plan";

impl Plan {
    /// A value for each endpoint.
    pub fn per_endpoint<'p, T>(&'p self, value: impl FnMut(&'p Endpoint) -> T) -> PerEndpoint<T> {
        PerEndpoint {
            places: self.places.clone(),
            values: self.endpoints.iter().map(value).collect(),
        }
    }

    /// This plan in place of `previous`: endpoints with the same fingerprint have the same number, and no other
    /// endpoint has a number that was ever used. Probes with the same SQL and interval, and clients with the same name, are numbered in the same way.
    #[must_use]
    pub fn following(mut self, previous: &Self) -> Self {
        let known = previous.endpoints.iter();
        let known: HashMap<Fingerprint, EndpointId> =
            known.map(|it| (Fingerprint::of(it), it.id)).collect();
        let used = Arc::clone(&previous.places.used);
        for endpoint in &mut self.endpoints {
            let same = known.get(&Fingerprint::of(endpoint));
            let new = || EndpointId::new(used.fetch_add(1, Ordering::Relaxed) as usize);
            endpoint.id = same.copied().unwrap_or_else(new);
        }
        self.places = Places::of(&self.endpoints, used);
        self.number_probes(previous);
        if let (Some(access), Some(previous)) = (&mut self.access, &previous.access) {
            access.follow(previous);
        }
        self
    }

    /// How this plan differs from `previous`, which it [follows](Self::following).
    pub fn changes_since(&self, previous: &Self) -> PlanChanges {
        let paths = |plan: &'_ Self| -> HashSet<String> {
            let endpoints = plan.endpoints.iter();
            endpoints.map(|it| it.path.as_str().to_owned()).collect()
        };
        let (paths, before) = (paths(self), paths(previous));
        let kept = self
            .endpoints
            .iter()
            .filter(|it| previous.find(it.id).is_some());
        let kept = kept.count();
        let same_paths = paths.intersection(&before).count();
        PlanChanges {
            changed: same_paths - kept,
            added: paths.len() - same_paths,
            removed: before.len() - same_paths,
            kept,
        }
    }

    fn number_probes(&mut self, previous: &Self) {
        let mut numbers = self.probe_numbers.max(previous.probe_numbers);
        let mut ids = HashMap::new();
        for probe in &mut self.probes {
            let asks_the_same = |other: &&Probe| other.is_like(probe);
            let same = previous.probes.iter().find(asks_the_same);
            let id = same.map_or_else(
                || {
                    numbers += 1;
                    ProbeId::new(numbers - 1)
                },
                |same| same.id,
            );
            ids.insert(probe.id, id);
            probe.id = id;
        }
        for endpoint in &mut self.endpoints {
            let probe = &mut endpoint.refresh.probe;
            *probe = probe.and_then(|id| ids.get(&id).copied());
        }
        self.probe_numbers = numbers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::compile;

    fn plan(statements: &[(&str, &str)]) -> Plan {
        let endpoint = |(path, sql): &(&str, &str)| {
            format!(
                "[[endpoint]]\npath = '{path}'\nsql = '{sql}'\nrefresh = {{ probe = {{ sql = '{sql}', every = '1s' }} }}\n"
            )
        };
        let endpoints: String = statements.iter().map(endpoint).collect();
        compile(&format!("repository.url = 'x'\n{endpoints}"))
    }

    fn numbers(plan: &Plan) -> Vec<usize> {
        let endpoints = plan.endpoints().iter();
        endpoints.map(|endpoint| endpoint.id.number()).collect()
    }

    #[test]
    fn what_stays_keeps_its_number_and_no_number_is_used_twice() {
        let first = plan(&[("/a", "SELECT 1"), ("/b", "SELECT 2"), ("/c", "SELECT 3")]);
        assert_eq!(numbers(&first), [0, 1, 2]);
        let second = plan(&[("/c", "SELECT 3"), ("/b", "SELECT 4"), ("/d", "SELECT 5")]);
        let second = second.following(&first);
        assert_eq!(numbers(&second), [2, 3, 4]);
        let changes = second.changes_since(&first);
        let expected = PlanChanges {
            changed: 1,
            added: 1,
            removed: 1,
            kept: 1,
        };
        assert_eq!(changes, expected);
        // It is not served; the next one must not take its numbers for other statements.
        let refused = plan(&[("/a", "SELECT 6")]).following(&second);
        assert_eq!(numbers(&refused), [5]);
        let third = plan(&[("/a", "SELECT 1"), ("/b", "SELECT 4")]).following(&second);
        assert_eq!(numbers(&third), [6, 3], "/a was removed, and is new");

        assert!(third.find(first.endpoints()[0].id).is_none());
        let path = |id| third.endpoint(id).path.as_str();
        assert_eq!(path(second.endpoints()[1].id), "/b");
        let values = third.per_endpoint(|endpoint| endpoint.path.as_str());
        assert_eq!(values[third.endpoints()[0].id], "/a");
        assert!(values.get(second.endpoints()[0].id).is_none());
        let Some(crate::plan::Route::Endpoint(routed)) = third.route("/a") else {
            panic!("/a is an endpoint");
        };
        assert_eq!(routed.endpoint.number(), 6);
    }

    #[test]
    fn equal_probes_have_the_same_number_in_all_plans() {
        let first = plan(&[("/a", "SELECT 1"), ("/b", "SELECT 2")]);
        let second = plan(&[("/x", "SELECT 3"), ("/b", "SELECT 2")]).following(&first);
        let ids: Vec<usize> = second.probes().iter().map(|it| it.id.number()).collect();
        assert_eq!(ids, [2, 1]);
        let of_b = second.endpoints()[1].refresh.probe.unwrap();
        assert_eq!(second.probe(of_b).unwrap().sql, "SELECT 2");
        assert!(second.probe(ProbeId::new(0)).is_none());
    }
}
