//! Content codings (RFC 9110, 8.4.1): a representation is compressed once and sent many times.

use std::io::Write;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// No compression.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// Compression levels.
struct Effort {
    gzip: u32,
    brotli: i32,
    zstd: i32,
}

/// For what is compressed once, in the background, and sent for long. Higher levels save a few per cent of
/// size for several times the work. Level 5 of brotli is the first that searches widely.
const THOROUGH: Effort = Effort {
    gzip: 6,
    brotli: 5,
    zstd: 6,
};

/// For what is outdated within seconds: the least work that pays off.
const FAST: Effort = Effort {
    gzip: 1,
    brotli: 1,
    zstd: 1,
};

impl Coding {
    /// Every coding, in the order in which Larder prefers them if the client does not: the fastest to decode
    /// first.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Brotli, Self::Gzip, Self::Identity];

    /// The name in `Content-Encoding`; `None` without compression.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// Compresses what is sent for long.
    pub(super) fn encode(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        self.encode_with(&THOROUGH, bytes)
    }

    /// Compresses what is soon outdated.
    ///
    /// # Errors
    /// A defect: every coding accepts any bytes.
    pub fn encode_fast(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        self.encode_with(&FAST, bytes)
    }

    fn encode_with(self, effort: &Effort, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(bytes.to_vec()),
            Self::Gzip => {
                let level = flate2::Compression::new(effort.gzip);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Brotli => {
                let parameters = brotli::enc::BrotliEncoderParams {
                    quality: effort.brotli,
                    size_hint: bytes.len(),
                    ..Default::default()
                };
                let mut coded = Vec::new();
                brotli::BrotliCompress(&mut &*bytes, &mut coded, &parameters)?;
                Ok(coded)
            }
            Self::Zstd => zstd::bulk::compress(bytes, effort.zstd),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        match coding {
            Coding::Identity => decoded.extend_from_slice(bytes),
            Coding::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(bytes);
                decoder.read_to_end(&mut decoded).unwrap();
            }
            Coding::Brotli => {
                brotli::BrotliDecompress(&mut &*bytes, &mut decoded).unwrap();
            }
            Coding::Zstd => decoded = zstd::stream::decode_all(bytes).unwrap(),
        }
        decoded
    }

    #[test]
    fn coded_bytes_decode_to_the_original() {
        let long = br#"{"country":"USA","sales":1234.5},"#.repeat(10_000);
        for coding in Coding::ALL {
            for bytes in [&b""[..], b"[]", &long] {
                let coded = coding.encode(bytes).unwrap();
                assert!(decode(coding, &coded) == bytes, "{coding:?}");
                let quickly = coding.encode_fast(bytes).unwrap();
                assert!(decode(coding, &quickly) == bytes, "{coding:?}");
            }
            let coded = coding.encode(&long).unwrap();
            assert!(coding == Coding::Identity || coded.len() < long.len() / 50);
        }
    }

    /// Browsers reject frames with a larger window (RFC 9659).
    #[test]
    fn a_zstd_window_has_8_mib_at_most() {
        let mut large = Vec::new();
        for i in 0..3_000_000_u32 {
            large.extend_from_slice(&i.wrapping_mul(0x9E37_79B9).to_le_bytes());
        }
        let coded = Coding::Zstd.encode(&large).unwrap();
        let mut decoder = zstd::stream::read::Decoder::new(&*coded).unwrap();
        decoder.window_log_max(23).unwrap();
        let mut decoded = Vec::new();
        decoder.read_to_end(&mut decoded).unwrap();
        assert!(decoded == large);
    }
}
