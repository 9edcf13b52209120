//! A symbol as bytes: everything it remembers, to go on elsewhere as if nothing had happened.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `CCFS` |
//! | 4 | version of this layout |
//! | 8 | feature-set hash, the optional inputs in use included |
//! | 8 | length of what follows the header |
//! | 4 | its crc32c |
//! | … | symbol, interval, ledger, engine (higher timeframes and the reference as this symbol saw it included), and for the reference symbol its closes |
//!
//! All numbers are little-endian and of fixed width, so a snapshot can be restored on any machine.

use std::fmt;

use wincode::{SchemaRead, SchemaWrite};

use crate::{engine::Engine, ledger::Ledger, market::Market, reference::Reference, symbol::Symbol};

const MAGIC: [u8; 4] = *b"CCFS";
const VERSION: u32 = 3;
const HEADER: usize = 28;

/// Why a snapshot was refused. The market is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It does not begin as a snapshot does.
    NoSnapshot,
    /// Its layout is of another version.
    Version(u32),
    /// It was made with other features, formulas or optional inputs.
    FeatureSet(u64),
    /// It is shorter or longer than it says.
    Length {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        actual: u64,
    },
    /// Its contents are not what was written.
    Checksum,
    /// Its symbol was compared with another reference symbol.
    Reference(Option<Symbol>),
    /// Its rows are kept in another precision.
    Precision,
    /// The market holds as many symbols as it may.
    SymbolLimit,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSnapshot => write!(f, "not a snapshot of candlecast features"),
            Self::Version(version) => write!(f, "snapshot layout {version}, but this build reads {VERSION}"),
            Self::FeatureSet(hash) => write!(f, "snapshot of feature set {hash:016x}, not of the one in use"),
            Self::Length { expected, actual } => write!(f, "snapshot of {actual} bytes that should have {expected}"),
            Self::Checksum => write!(f, "snapshot is damaged: its checksum does not match"),
            Self::Reference(Some(symbol)) => write!(f, "snapshot with reference symbol {symbol}, not the one in use"),
            Self::Reference(None) => write!(f, "snapshot without a reference symbol, but one is in use"),
            Self::Precision => write!(f, "snapshot with rows of another precision than the one in use"),
            Self::SymbolLimit => write!(f, "no room: the market holds as many symbols as it may"),
        }
    }
}

#[derive(SchemaWrite)]
struct Written<'a> {
    symbol: Symbol,
    interval_ms: i64,
    reference_symbol: Option<Symbol>,
    ledger: &'a Ledger,
    closes: Option<&'a Reference>,
    engine: &'a Engine,
}

#[derive(SchemaRead)]
struct Read {
    symbol: Symbol,
    interval_ms: i64,
    reference_symbol: Option<Symbol>,
    ledger: Ledger,
    closes: Option<Reference>,
    engine: Box<Engine>,
}

impl Market {
    /// Everything that is remembered of a symbol; `None` for one never seen.
    pub fn snapshot(&self, symbol: Symbol, interval_ms: i64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.snapshot_into(symbol, interval_ms, &mut bytes).then_some(bytes)
    }

    /// The same in place of what `bytes` holds: a buffer used again costs no memory. False for a symbol never seen.
    pub fn snapshot_into(&self, symbol: Symbol, interval_ms: i64, bytes: &mut Vec<u8>) -> bool {
        let write = |ledger: &Ledger, engine: &Engine| {
            let reference_symbol = self.settings.reference.filter(|_| self.settings.used.reference);
            let closes = self.references.get(&interval_ms).filter(|_| reference_symbol == Some(symbol));
            let written = Written { symbol, interval_ms, reference_symbol, ledger, closes, engine };
            bytes.clear();
            bytes.resize(HEADER, 0);
            wincode::serialize_into(&mut *bytes, &written).expect("memory is written to");
            let header = [
                &MAGIC[..],
                &VERSION.to_le_bytes(),
                &self.feature_set_hash.to_le_bytes(),
                &((bytes.len() - HEADER) as u64).to_le_bytes(),
                &crc32c(&bytes[HEADER..]).to_le_bytes(),
            ];
            bytes[..HEADER].copy_from_slice(&header.concat());
        };
        self.parts(symbol, interval_ms, write).is_some()
    }

    /// Puts a symbol back as its snapshot has it, and says which it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(Symbol, i64), Unusable> {
        let contents = self.checked(bytes)?;
        let read: Read = wincode::deserialize(contents).map_err(|_| Unusable::Checksum)?;
        let reference_symbol = self.settings.reference.filter(|_| self.settings.used.reference);
        if read.reference_symbol != reference_symbol {
            return Err(Unusable::Reference(read.reference_symbol));
        }
        if read.engine.precision() != Some(self.settings.rows) {
            return Err(Unusable::Precision);
        }
        let key = (read.symbol, read.interval_ms);
        self.put(key, read.ledger, read.engine).map_err(|_| Unusable::SymbolLimit)?;
        if let Some(closes) = read.closes {
            self.references.insert(read.interval_ms, closes);
        }
        Ok(key)
    }

    /// What lies behind the header, if the header holds what it promises.
    fn checked<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Unusable> {
        let (header, contents) = bytes.split_first_chunk::<HEADER>().ok_or(Unusable::NoSnapshot)?;
        let field =
            |from: usize| <[u8; 8]>::try_from(&header[from..from + 8]).map(u64::from_le_bytes).expect("8 bytes");
        let half = |from: usize| <[u8; 4]>::try_from(&header[from..from + 4]).map(u32::from_le_bytes).expect("4 bytes");
        let (version, hash, expected, checksum) = (half(4), field(8), field(16), half(24));
        let actual = contents.len() as u64;
        match () {
            () if header[..4] != MAGIC => Err(Unusable::NoSnapshot),
            () if version != VERSION => Err(Unusable::Version(version)),
            () if hash != self.feature_set_hash => Err(Unusable::FeatureSet(hash)),
            () if expected != actual => Err(Unusable::Length { expected, actual }),
            () if checksum != crc32c(contents) => Err(Unusable::Checksum),
            () => Ok(contents),
        }
    }
}

/// The checksum of snapshots and of journal records.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
