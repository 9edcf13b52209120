//! The last values in ascending order: medians, quantiles, ranks.

/// The newest `N` values, sorted.
///
/// The value that leaves is found by bisection and everything between it and the place of the new one moves by one: one
/// short `memmove` a bar, and no residue. It does not remember the order of arrival: the caller's [`super::Window`] does.
///
/// ```
/// use candlecast_features::rolling::Sorted;
///
/// let mut sorted = Sorted::<3>::new();
/// sorted.replace(None, 5.0);
/// sorted.replace(None, 1.0);
/// assert_eq!(sorted.full(), None);
/// sorted.replace(None, 3.0);
/// sorted.replace(Some(5.0), 2.0);
/// assert_eq!(sorted.full(), Some(&[1.0, 2.0, 3.0]));
/// ```
#[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
pub struct Sorted<const N: usize> {
    values: [f64; N],
    len: usize,
}

impl<const N: usize> Sorted<N> {
    /// Holds nothing yet.
    pub fn new() -> Self {
        Self { values: [0.0; N], len: 0 }
    }

    /// Takes `new` in and the value that falls out of the window, if one does, out. `old` must be among the values.
    #[inline]
    pub fn replace(&mut self, old: Option<f64>, new: f64) {
        let hole = match old {
            Some(old) => self.rank(old),
            None => {
                self.len += 1;
                self.len - 1
            }
        };
        // The new value's place among the others; one to the left when the hole lies before it.
        let place = self.values[..self.len - usize::from(old.is_none())].partition_point(|x| *x < new);
        let place = if place > hole { place - 1 } else { place };
        if place < hole {
            self.values.copy_within(place..hole, place + 1);
        } else {
            self.values.copy_within(hole + 1..=place, hole);
        }
        self.values[place] = new;
    }

    /// How many values are less than `x`.
    #[inline]
    pub fn rank(&self, x: f64) -> usize {
        self.values[..self.len].partition_point(|other| *other < x)
    }

    /// All values ascending; `None` until `N` were seen.
    #[inline]
    pub fn full(&self) -> Option<&[f64; N]> {
        (self.len == N).then_some(&self.values)
    }
}

impl<const N: usize> Default for Sorted<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::ticks;

    /// A tick walk: many equal values, the case that breaks a careless bisection.
    fn check<const N: usize>() {
        let xs = ticks(6, 500);
        let mut sorted = Sorted::<N>::new();
        for (i, x) in xs.iter().enumerate() {
            sorted.replace(i.checked_sub(N).map(|old| xs[old]), *x);
            if i + 1 < N {
                assert_eq!(sorted.full(), None);
                continue;
            }
            let mut plain = xs[i + 1 - N..=i].to_vec();
            plain.sort_by(f64::total_cmp);
            assert_eq!(sorted.full().unwrap().as_slice(), plain);
            assert_eq!(sorted.rank(*x), plain.iter().filter(|y| *y < x).count());
        }
    }

    #[test]
    fn is_the_sorted_window_for_many_lengths() {
        check::<1>();
        check::<2>();
        check::<5>();
        check::<96>();
    }
}
