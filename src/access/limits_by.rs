//! What each of many callers may take: by the addresses of those without a credential, and by the subjects of
//! tokens, whose clients get a new token now and then.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::limiter::Limits;
use crate::plan::{Limit, Quota};

/// The callers whose limits are kept: some 20 MB. Beyond, those of the least active ones are forgotten.
const CALLERS_MAX: u64 = 100_000;

/// The limits of each caller that has asked of late.
#[derive(Debug)]
pub(super) struct LimitsBy<K: Hash + Eq + Send + Sync + 'static> {
    limit: Limit,
    by: Cache<K, Arc<Limits>>,
}

impl<K: Hash + Eq + Send + Sync + 'static> LimitsBy<K> {
    pub(super) fn new(limit: Limit) -> Self {
        let windows = [limit.requests, limit.loads];
        let windows = windows.iter().flatten().map(|quota: &Quota| quota.window);
        // By then a quota is full again, and forgetting it changes nothing.
        let longest = windows.max().unwrap_or(Duration::ZERO);
        let by = Cache::builder()
            .max_capacity(CALLERS_MAX)
            .time_to_idle(longest)
            .build();
        Self { limit, by }
    }

    pub(super) fn of(&self, caller: K) -> Arc<Limits> {
        let limits = || Arc::new(Limits::new(&self.limit));
        self.by.get_with(caller, limits)
    }
}

/// The addresses of one client: networks assign an IPv6 client 64 bits to choose from (RFC 6177).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_cannot_multiply_its_limit() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(
            network("2001:db8:1:2:ffff:ffff:ffff:ffff"),
            "2001:db8:1:2::"
        );
        assert_eq!(network("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
