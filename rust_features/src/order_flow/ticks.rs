//! Which way the last trades moved the price.

/// Trades that the ratio looks at.
pub const TICKS: usize = 50;

/// Mean of the tick signs of the last [`TICKS`] trades.
///
/// The tick rule: +1 when a trade is dearer than the one before, −1 when it is cheaper, and at the same price the sign of
/// the trade before. The first trade has 0, and so have those that follow it at its price.
///
/// ```
/// use candlecast_features::order_flow::ticks::Ticks;
///
/// let mut ticks = Ticks::default();
/// let ratios: Vec<_> = [10.0, 11.0, 11.0, 10.5].map(|price| ticks.push(price)).into();
/// assert_eq!(ratios, [0.0, 0.5, 2.0 / 3.0, 0.25]);
/// ```
#[derive(Clone, Debug)]
pub struct Ticks {
    signs: [i8; TICKS],
    at: usize,
    len: usize,
    sum: i32,
    price: f64,
    sign: i8,
}

impl Default for Ticks {
    fn default() -> Self {
        Self { signs: [0; TICKS], at: 0, len: 0, sum: 0, price: f64::NAN, sign: 0 }
    }
}

impl Ticks {
    /// Take the price of the next trade and return the ratio, −1 to 1.
    #[inline]
    pub fn push(&mut self, price: f64) -> f64 {
        if price > self.price {
            self.sign = 1;
        } else if price < self.price {
            self.sign = -1;
        }
        self.price = price;
        self.sum += i32::from(self.sign) - i32::from(self.signs[self.at]); // 0 where no trade was yet
        self.signs[self.at] = self.sign;
        self.at = if self.at + 1 == TICKS { 0 } else { self.at + 1 };
        self.len = TICKS.min(self.len + 1);
        self.ratio()
    }

    /// The ratio as of the newest trade; NaN before the first.
    #[inline]
    pub fn ratio(&self) -> f64 {
        f64::from(self.sum) / self.len as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_mean_of_the_signs_of_the_last_fifty() {
        let prices: Vec<f64> = (0..500_u64).map(|i| (i * i % 7 + i % 5) as f64 + 1.0).collect();
        let mut signs = vec![0.0];
        for pair in prices.windows(2) {
            signs.push(match pair[1].partial_cmp(&pair[0]).unwrap() {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Less => -1.0,
                std::cmp::Ordering::Equal => *signs.last().unwrap(),
            });
        }
        let mut ticks = Ticks::default();
        assert!(ticks.ratio().is_nan());
        for (i, price) in prices.iter().enumerate() {
            let window = &signs[(i + 1).saturating_sub(TICKS)..=i];
            assert_eq!(ticks.push(*price), window.iter().sum::<f64>() / window.len() as f64, "trade {i}");
        }
    }

    #[test]
    fn a_price_that_never_moves_has_no_direction() {
        let mut ticks = Ticks::default();
        assert!((0..100).all(|_| ticks.push(5.0) == 0.0));
    }
}
