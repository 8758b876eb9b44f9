//! The customers.

use super::places::{PLACES, Place};
use super::random::Random;

const CUSTOMERS_PER_PLACE: usize = 5;

#[derive(Debug)]
pub(super) struct Customer {
    name: String,
    phone: String,
    address: String,
    address_more: Option<&'static str>,
    postal_code: Option<String>,
    city: &'static str,
    state: Option<&'static str>,
    country: &'static str,
    territory: Option<&'static str>,
    last_name: &'static str,
    first_name: &'static str,
}

impl Customer {
    fn of(place: &Place, n: usize, random: &mut Random) -> Self {
        let (city, state) = place.cities[n % place.cities.len()];
        let last_name = place.last_names[n % place.last_names.len()];
        let trade = place.trades[random.below(place.trades.len())];
        let street = place.streets[random.below(place.streets.len())];
        let house = 1 + random.below(240);
        Self {
            name: trade.replace('*', last_name),
            phone: digits(place.phone, random),
            address: street.replace('*', &house.to_string()),
            address_more: (random.below(8) == 0).then_some("Level 2"),
            postal_code: (!place.postal_code.is_empty()).then(|| digits(place.postal_code, random)),
            city,
            state: (!state.is_empty()).then_some(state),
            country: place.country,
            territory: place.territory,
            // The contact rarely has the firm's name.
            last_name: place.last_names[(n + 2) % place.last_names.len()],
            first_name: place.first_names[random.below(place.first_names.len())],
        }
    }

    /// Its columns in the table's order.
    pub(super) fn columns(&self) -> [Option<&str>; 11] {
        [
            Some(&self.name),
            Some(&self.phone),
            Some(&self.address),
            self.address_more,
            Some(self.city),
            self.state,
            self.postal_code.as_deref(),
            Some(self.country),
            self.territory,
            Some(self.last_name),
            Some(self.first_name),
        ]
    }
}

/// The best customers first. Each country's customers are spread over the list, in the order of the countries'
/// importance.
pub(super) fn customers(seed: u64) -> Vec<Customer> {
    let mut random = Random(seed);
    let mut customers = Vec::new();
    for n in 0..CUSTOMERS_PER_PLACE {
        for place in &PLACES {
            customers.push(Customer::of(place, n, &mut random));
        }
    }
    customers
}

/// A text with every `#` replaced by a digit.
fn digits(pattern: &str, random: &mut Random) -> String {
    pattern
        .chars()
        .map(|c| {
            if c == '#' {
                char::from(b'0' + random.next().to_le_bytes()[0] % 10)
            } else {
                c
            }
        })
        .collect()
}
