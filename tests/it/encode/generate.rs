//! Generated values as Postgres parses them, the same in every run.

/// Makes one value of a type.
pub(super) type Generator = fn(&mut Random) -> String;

/// Pseudo-random numbers (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded_by(name: &str) -> Self {
        Self(name.bytes().fold(0, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        }))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which must be positive.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small and large numbers of either sign.
    pub(super) fn signed(&mut self, bits: u64) -> i64 {
        let kept = 64 - bits + self.below(bits);
        self.next().cast_signed() >> kept
    }

    pub(super) fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len() as u64) as usize]
    }
}

pub(super) fn boolean(random: &mut Random) -> String {
    (random.below(2) == 0).to_string()
}

pub(super) fn int2(random: &mut Random) -> String {
    random.signed(16).to_string()
}

pub(super) fn int4(random: &mut Random) -> String {
    random.signed(32).to_string()
}

pub(super) fn int8(random: &mut Random) -> String {
    random.signed(64).to_string()
}

pub(super) fn oid(random: &mut Random) -> String {
    (random.next() as u32 >> random.below(32)).to_string()
}

pub(super) fn float4(random: &mut Random) -> String {
    format!("{:e}", f32::from_bits(random.next() as u32))
}

pub(super) fn float8(random: &mut Random) -> String {
    format!("{:e}", f64::from_bits(random.next()))
}

fn digits(random: &mut Random, most: u64) -> String {
    // Runs of zeros and nines test the edges of base-10,000 digits.
    let pieces = [
        "0", "000", "0000", "00000", "9", "9999", "1", "27", "305", "4186",
    ];
    let length = random.below(most + 1) as usize;
    let mut digits = String::new();
    while digits.len() < length {
        digits.push_str(random.pick(&pieces));
    }
    digits.truncate(length);
    digits
}

pub(super) fn numeric(random: &mut Random) -> String {
    let most = *random.pick(&[&4, &12, &60, &300]);
    let sign = random.pick(&["", "-"]);
    let (whole, fraction) = (digits(random, most), digits(random, most));
    match random.below(4) {
        0 => format!("{sign}{whole}1"),
        1 => format!("{sign}1{whole}e{}", random.signed(10)),
        _ => format!("{sign}{whole}0.{fraction}"),
    }
}

pub(super) fn small_numeric(random: &mut Random) -> String {
    format!("{}.{}0", random.signed(60), random.below(1 << 40))
}

pub(super) fn text(random: &mut Random) -> String {
    let pieces = [
        "a",
        "Zürich",
        "\"",
        "\\",
        "\\u0041",
        "\u{1}",
        "\u{8}",
        "\t",
        "\n",
        "\u{b}",
        "\u{c}",
        "\r",
        "\u{1f}",
        "\u{7f}",
        "\u{80}",
        "é",
        "漢字",
        "😀",
        "\u{10ffff}",
        "</script>",
        "sixteen letters ",
        "'",
        "{",
        ",",
        " ",
    ];
    (0..random.below(20))
        .map(|_| random.pick(&pieces))
        .collect()
}

pub(super) fn json(random: &mut Random) -> String {
    json_of_depth(random, 3)
}

fn json_of_depth(random: &mut Random, depth: u32) -> String {
    let space = random.pick(&["", " ", "\n", "\t "]);
    let kinds = if depth == 0 { 3 } else { 5 };
    let inner = match random.below(kinds) {
        0 => random
            .pick(&["null", "true", "false", "-0.0", "1E+2", "12.3400"])
            .to_owned(),
        1 => random.signed(64).to_string(),
        2 => serde_json::Value::from(text(random)).to_string(),
        3 => {
            let elements: Vec<String> = (0..random.below(4))
                .map(|_| json_of_depth(random, depth - 1))
                .collect();
            format!("[{}]", elements.join(","))
        }
        _ => {
            let members: Vec<String> = (0..random.below(4))
                .map(|_| {
                    let key = serde_json::Value::from(text(random));
                    format!("{key}:{}", json_of_depth(random, depth - 1))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
    };
    format!("{space}{inner}{space}")
}

fn day(random: &mut Random, last_year: u64) -> (String, &'static str) {
    let last = *random.pick(&[&2100, &9999, &last_year]);
    let (year, era) = match random.below(4) {
        0 => (1 + random.below(4713), " BC"),
        _ => (1 + random.below(last), ""),
    };
    (
        format!(
            "{year:04}-{:02}-{:02}",
            1 + random.below(12),
            1 + random.below(28)
        ),
        era,
    )
}

fn clock(random: &mut Random) -> String {
    let (hours, minutes, seconds) = (random.below(24), random.below(60), random.below(60));
    let micros = format!("{:06}", random.below(1_000_000));
    // A fraction of up to six digits.
    let fraction = &micros[..random.below(7) as usize];
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{hours:02}:{minutes:02}:{seconds:02}{point}{fraction}")
}

fn zone(random: &mut Random) -> String {
    let sign = random.pick(&["+", "-"]);
    let hours = format!("{sign}{:02}", random.below(16));
    match random.below(3) {
        0 => hours,
        1 => format!("{hours}:{:02}", random.below(60)),
        _ => format!("{hours}:{:02}:{:02}", random.below(60), random.below(60)),
    }
}

pub(super) fn date(random: &mut Random) -> String {
    let (day, era) = day(random, 5_874_897);
    format!("{day}{era}")
}

pub(super) fn timestamp(random: &mut Random) -> String {
    let (day, era) = day(random, 294_276);
    format!("{day} {}{era}", clock(random))
}

pub(super) fn timestamptz(random: &mut Random) -> String {
    // A year from either end, so that no zone exceeds the range.
    let (day, era) = loop {
        let (day, era) = day(random, 294_275);
        if !day.starts_with("4713") {
            break (day, era);
        }
    };
    format!("{day} {}{}{era}", clock(random), zone(random))
}

pub(super) fn time(random: &mut Random) -> String {
    clock(random)
}

pub(super) fn timetz(random: &mut Random) -> String {
    format!("{}{}", clock(random), zone(random))
}

pub(super) fn interval(random: &mut Random) -> String {
    let mut part = |bits: u64| {
        if random.below(3) == 0 {
            0
        } else {
            random.signed(bits)
        }
    };
    let (months, days, seconds) = (part(31), part(31), part(40));
    let micros = random.below(1_000_000) * random.below(2);
    format!("{months} mons {days} days {seconds} secs {micros} microseconds")
}

pub(super) fn hex(random: &mut Random, digits: usize) -> String {
    (0..digits)
        .map(|_| char::from(b"0123456789abcdef"[random.below(16) as usize]))
        .collect()
}

pub(super) fn uuid(random: &mut Random) -> String {
    hex(random, 32)
}

pub(super) fn bytea(random: &mut Random) -> String {
    let length = random.below(40) as usize;
    format!("\\x{}", hex(random, 2 * length))
}

/// Numbers separated by spaces, each in the range of `int2`.
pub(super) fn vector(random: &mut Random) -> String {
    (0..random.below(6))
        .map(|_| format!("{} ", random.below(32_768)))
        .collect()
}

/// Empty arrays, and arrays with unusual bounds.
pub(super) const EMPTY_ARRAYS: [&str; 4] = [
    "{}",
    "{NULL}",
    "[5:5]={NULL}",
    "[-1:0][7:7]={{NULL},{NULL}}",
];

/// An array of one to three dimensions, sometimes with explicit lower bounds.
pub(super) fn array(random: &mut Random, values: &[Option<String>]) -> String {
    let lengths: Vec<u64> = (0..1 + random.below(3))
        .map(|_| 1 + random.below(4))
        .collect();
    let mut literal = String::new();
    if random.below(3) == 0 {
        for &length in &lengths {
            let lower = random.signed(8);
            literal.push_str(&format!("[{lower}:{}]", lower + length.cast_signed() - 1));
        }
        literal.push('=');
    }
    literal + &level(random, values, &lengths)
}

fn level(random: &mut Random, values: &[Option<String>], lengths: &[u64]) -> String {
    let Some((&length, inner)) = lengths.split_first() else {
        let value = &values[random.below(values.len() as u64) as usize];
        return value.as_deref().map_or_else(|| "NULL".to_owned(), quoted);
    };
    let elements: Vec<String> = (0..length).map(|_| level(random, values, inner)).collect();
    format!("{{{}}}", elements.join(","))
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An array of all these values.
pub(super) fn array_of(values: &[String]) -> String {
    let elements: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("{{{}}}", elements.join(","))
}
