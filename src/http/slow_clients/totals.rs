//! What the transfers under way add up to, by response and by connection.

use std::collections::HashMap;
use std::sync::Arc;

use super::outbound::Outbound;
use super::transfer::Transfer;

/// The large responses that only clients keep in memory, without transfers that are cut.
#[derive(Default)]
pub(super) struct Totals {
    /// For each response, by its address: its bytes, and the number of its transfers.
    responses: HashMap<usize, (u64, usize)>,
    /// The number of transfers of a response on one connection.
    shares: HashMap<(*const Outbound, usize), usize>,
    /// For each connection: the bytes of its responses, and their number.
    connections: HashMap<*const Outbound, (u64, usize)>,
    /// Bytes that are freed once everything that is cut has ended.
    pub(super) freed: u64,
}

impl Totals {
    /// `transfers` come with the bytes of their responses.
    pub(super) fn new(transfers: &[(&Arc<Transfer>, u64)]) -> Self {
        let mut totals = Self::default();
        for &(transfer, bytes) in transfers {
            let response = totals
                .responses
                .entry(transfer.address)
                .or_insert((bytes, 0));
            if transfer.is_cut() {
                continue;
            }
            response.1 += 1;
            let outbound = Arc::as_ptr(&transfer.outbound);
            let share = totals
                .shares
                .entry((outbound, transfer.address))
                .or_default();
            *share += 1;
            if *share == 1 {
                let connection = totals.connections.entry(outbound).or_default();
                *connection = (connection.0 + bytes, connection.1 + 1);
            }
        }
        let cut = totals
            .responses
            .values()
            .filter(|(_, transfers)| *transfers == 0);
        totals.freed = cut.map(|(bytes, _)| bytes).sum();
        totals
    }

    /// The bytes of the responses on a transfer's connection, and their number.
    pub(super) fn of_connection(&self, transfer: &Transfer) -> (u64, usize) {
        let outbound = Arc::as_ptr(&transfer.outbound);
        self.connections.get(&outbound).copied().unwrap_or_default()
    }

    /// Leaves out a transfer that is cut now.
    pub(super) fn remove(&mut self, transfer: &Transfer, bytes: u64) {
        if let Some((_, transfers)) = self.responses.get_mut(&transfer.address) {
            *transfers -= 1;
            self.freed += if *transfers == 0 { bytes } else { 0 };
        }
        let outbound = Arc::as_ptr(&transfer.outbound);
        if let Some(share) = self.shares.get_mut(&(outbound, transfer.address)) {
            *share -= 1;
            if *share == 0
                && let Some(connection) = self.connections.get_mut(&outbound)
            {
                *connection = (connection.0 - bytes, connection.1 - 1);
            }
        }
    }
}
