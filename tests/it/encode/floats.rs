//! Floats that are hard to print: shortest-digit algorithms differ on these, if at all.

use super::generate::Random;

/// The number of values of each kind.
const COUNT: usize = 30_000;

/// `float8` values: random bits; all powers of two and of ten with their neighbours; values with few bits,
/// which make ties between decimals; and neighbours of a short decimal exactly between them.
pub(super) fn doubles(random: &mut Random) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::new();
    let mut with_neighbours =
        |value: f64| values.extend([value.next_down(), value, value.next_up()]);
    (0..0x7ff).for_each(|exponent| with_neighbours(f64::from_bits(exponent << 52)));
    (0..52).for_each(|bit| with_neighbours(f64::from_bits(1 << bit)));
    (-323..=308).for_each(|exponent| with_neighbours(format!("1e{exponent}").parse().unwrap()));
    for _ in 0..COUNT {
        values.push(f64::from_bits(random.next()));
        let bits = random.below(53);
        values.push(f64::from_bits(random.below(1 << bits)));
        let kept = random.below(53);
        let biased = 1023 + 60 - random.below(120);
        values.push(f64::from_bits(
            biased << 52 | random.below(1 << 52) >> kept << kept,
        ));
        values.push(short_decimal(random, 17, 300).parse().unwrap());
        values.push(random.below(1 << 60) as f64);
        values.extend(between_doubles(random));
    }
    values
}

/// The same for `float4`.
pub(super) fn singles(random: &mut Random) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::new();
    let mut with_neighbours =
        |value: f32| values.extend([value.next_down(), value, value.next_up()]);
    (0..0xff).for_each(|exponent| with_neighbours(f32::from_bits(exponent << 23)));
    (0..23).for_each(|bit| with_neighbours(f32::from_bits(1 << bit)));
    (-45..=38).for_each(|exponent| with_neighbours(format!("1e{exponent}").parse().unwrap()));
    for _ in 0..COUNT {
        values.push(f32::from_bits(random.next() as u32));
        let bits = random.below(24);
        values.push(f32::from_bits(random.below(1 << bits) as u32));
        let kept = random.below(24);
        let biased = 127 + 30 - random.below(60);
        values.push(f32::from_bits(
            (biased << 23 | random.below(1 << 23) >> kept << kept) as u32,
        ));
        values.push(short_decimal(random, 9, 40).parse().unwrap());
        values.push(random.below(1 << 30) as f32);
        values.extend(between_singles(random));
    }
    values
}

fn short_decimal(random: &mut Random, digits: u64, exponent: u64) -> String {
    let length = 1 + random.below(digits) as u32;
    let digits = random.below(10_u64.pow(length));
    format!(
        "{digits}e{}",
        random.below(2 * exponent).cast_signed() - exponent.cast_signed()
    )
}

/// The middle between two floats, `odd × 2^twos × 10^tens`, so that it has few digits. Returned as twice the
/// mantissa of the lower one plus one, and the exponent of both in halves.
fn middle(random: &mut Random, mantissa_bits: u32, most_tens: u64) -> (u64, i32) {
    loop {
        let tens = random.below(most_tens) as u32;
        let fives = 5_u64.pow(tens);
        let least = (1 << mantissa_bits) / fives;
        let odd = (least + random.below(least + 1)) | 1;
        let twice = odd * fives;
        if twice >> mantissa_bits == 1 {
            return (twice, (tens + random.below(20) as u32).cast_signed());
        }
    }
}

fn between_doubles(random: &mut Random) -> [f64; 2] {
    let (twice, halves) = middle(random, 53, 24);
    [twice / 2, twice / 2 + 1].map(|mantissa| mantissa as f64 * 2_f64.powi(halves + 1))
}

fn between_singles(random: &mut Random) -> [f32; 2] {
    let (twice, halves) = middle(random, 24, 11);
    [twice / 2, twice / 2 + 1].map(|mantissa| mantissa as f32 * 2_f32.powi(halves + 1))
}
