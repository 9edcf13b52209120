//! The name of a market: checked once, small enough to be a hash key without an allocation.

use std::{fmt, str::FromStr};

use crate::candle::{Field, Reason, Refusal};

/// 1–32 characters of `A-Z 0-9 . _ : / -`.
///
/// ```
/// use candlecast_features::symbol::Symbol;
///
/// assert_eq!("BTC/USDT:PERP".parse::<Symbol>().unwrap().as_str(), "BTC/USDT:PERP");
/// assert!("btcusdt".parse::<Symbol>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Symbol {
    /// Zeros behind the name: no allowed character is zero.
    bytes: [u8; Self::LEN_MAX],
}

impl Symbol {
    /// Longest name, in characters.
    pub const LEN_MAX: usize = 32;

    /// The name.
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(Self::LEN_MAX);
        str::from_utf8(&self.bytes[..len]).expect("allowed characters are ASCII")
    }
}

impl Symbol {
    /// From a field of fixed width with zeros behind the name.
    ///
    /// # Errors
    /// What it holds is no symbol.
    pub fn from_padded(bytes: &[u8; Self::LEN_MAX]) -> Result<Self, Refusal> {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(Self::LEN_MAX);
        let is_padded = bytes[len..].iter().all(|byte| *byte == 0);
        str::from_utf8(if is_padded { &bytes[..len] } else { &[] }).unwrap_or("").parse()
    }
}

impl FromStr for Symbol {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"._:/-".contains(&b);
        if !(1..=Self::LEN_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(Refusal { field: Field::Symbol, reason: Reason::BadSymbol });
        }
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes })
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Symbol({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_allowed_names_and_no_other() {
        let longest = "A".repeat(32);
        for name in ["A", "BTCUSDT", "BTC-USD", "X:BTC/USD_1.5", longest.as_str()] {
            assert_eq!(name.parse::<Symbol>().unwrap().to_string(), name);
            let mut padded = [0; Symbol::LEN_MAX];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            assert_eq!(Symbol::from_padded(&padded).unwrap().as_str(), name);
        }
        let too_long = "A".repeat(33);
        for name in ["", "btc", "BTC USDT", "BTC\0", "BTCUSDT\n", "ÄBC", too_long.as_str()] {
            assert_eq!(name.parse::<Symbol>().unwrap_err().reason, Reason::BadSymbol, "{name:?}");
        }
        for padded in [*b"BTC\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0X", [0; 32], [0xff; 32]] {
            assert_eq!(Symbol::from_padded(&padded).unwrap_err().reason, Reason::BadSymbol);
        }
    }
}
