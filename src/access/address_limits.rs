//! How much callers without a credential may take, by their address.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::limiter::Limits;
use crate::plan::{Limit, Quota};

/// Addresses whose limits are kept: some 20 MB. Beyond, those of the least active ones are forgotten.
const ADDRESSES_MAX: u64 = 100_000;

/// The limits of each address that has asked of late.
#[derive(Debug)]
pub(super) struct AddressLimits {
    limit: Limit,
    by_network: Cache<IpAddr, Arc<Limits>>,
}

impl AddressLimits {
    pub(super) fn new(limit: Limit) -> Self {
        let windows = [limit.requests, limit.loads];
        let windows = windows.iter().flatten().map(|quota: &Quota| quota.window);
        // By then a quota is full again, and forgetting it changes nothing.
        let longest = windows.max().unwrap_or(Duration::ZERO);
        let by_network = Cache::builder()
            .max_capacity(ADDRESSES_MAX)
            .time_to_idle(longest)
            .build();
        Self { limit, by_network }
    }

    pub(super) fn of(&self, address: IpAddr) -> Arc<Limits> {
        let limits = || Arc::new(Limits::new(&self.limit));
        self.by_network.get_with(network(address), limits)
    }
}

/// Networks assign an IPv6 client 64 bits to choose its addresses from: RFC 6177.
fn network(address: IpAddr) -> IpAddr {
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
