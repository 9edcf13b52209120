//! Test data and comparisons: seeded, so a failure repeats.

/// SplitMix64: enough randomness for test data, and the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }
}

/// A positive random walk.
pub fn walk(seed: u64, n: usize) -> Vec<f64> {
    let mut dice = Dice::new(seed);
    let mut x = 100.0;
    let mut next = || {
        x *= 1.0 + 0.02 * (dice.unit() - 0.5);
        x
    };
    (0..n).map(|_| next()).collect()
}

/// A walk on a coarse grid: exact ties are frequent.
pub fn ticks(seed: u64, n: usize) -> Vec<f64> {
    walk(seed, n).into_iter().map(f64::round).collect()
}

/// Random signs.
pub fn signs(seed: u64, n: usize) -> Vec<i8> {
    let mut dice = Dice::new(seed);
    (0..n).map(|_| dice.below(3) as i8 - 1).collect()
}

/// Equal within `tolerance`, absolute for small and relative for large values.
#[track_caller]
pub fn assert_close(actual: f64, expected: f64, tolerance: f64) {
    let error = (actual - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{actual} is not {expected}: off by {error:e}");
}
