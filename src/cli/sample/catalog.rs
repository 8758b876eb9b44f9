//! The products on sale.

use super::random::Random;

/// The product lines, with their lowest and highest prices in whole currency units.
pub(super) const LINES: [(&str, &str, u64, u64); 7] = [
    ("Sailing Ships", "SH", 48, 160),
    ("Steam Engines", "ST", 60, 214),
    ("Airships", "AI", 40, 150),
    ("Lighthouses", "LI", 33, 105),
    ("Funiculars", "FU", 35, 120),
    ("Racing Bicycles", "RB", 36, 190),
    ("Clockworks", "CL", 52, 205),
];

#[derive(Debug)]
pub(super) struct Product {
    pub(super) line: &'static str,
    pub(super) code: String,
    /// The recommended price, in whole currency units.
    pub(super) msrp: u64,
}

pub(super) fn products(seed: u64) -> Vec<Product> {
    let mut random = Random(seed);
    let mut products = Vec::new();
    for (line, letters, least, most) in LINES {
        for n in 1..=16 {
            let scale = [12, 24, 50, 72][random.below(4)];
            let code = format!("{letters}{scale}_{}", 1_000 + n * 137 + random.below(100));
            let msrp = least + random.below_u64(most - least + 1);
            products.push(Product { line, code, msrp });
        }
    }
    products
}
