//! Maxima and minima of the newest values, looked for anew every bar: several numbers at once, and nothing to remember.

/// Maxima of the newest `lengths[i]` of `xs`, for several lengths in one pass; `None` where there are not as many. `xs` has the
/// newest last, `lengths` ascend.
///
/// ```
/// use candlecast_features::rolling::nested_maxima;
///
/// assert_eq!(nested_maxima(&[9.0, 1.0, 2.0], [1, 2, 3, 4]), [Some(2.0), Some(2.0), Some(9.0), None]);
/// ```
#[inline(always)]
pub fn nested_maxima<const N: usize>(xs: &[f64], lengths: [usize; N]) -> [Option<f64>; N] {
    nested(xs, lengths, higher)
}

/// As [`nested_maxima`], the minima.
#[inline(always)]
pub fn nested_minima<const N: usize>(xs: &[f64], lengths: [usize; N]) -> [Option<f64>; N] {
    nested(xs, lengths, lower)
}

/// (greatest, least) of `xs`.
///
/// ```
/// assert_eq!(candlecast_features::rolling::extent(&[2.0, 3.0, 1.0]), (3.0, 1.0));
/// ```
#[inline(always)]
pub fn extent(xs: &[f64]) -> (f64, f64) {
    xs.iter().fold((f64::NEG_INFINITY, f64::INFINITY), |(most, least), x| (higher(most, *x), lower(least, *x)))
}

/// How long ago the newest of `xs` was that equals `x`; their number, if none does. The newest is the last.
#[inline(always)]
pub fn age_of(x: f64, xs: &[f64]) -> usize {
    let (rest, chunks) = xs.as_rchunks::<8>();
    for (i, chunk) in chunks.iter().rev().enumerate() {
        // Eight at once, and only then which.
        if chunk.iter().fold(false, |found, y| found | (*y == x)) {
            return 8 * i + 7 - chunk.iter().rposition(|y| *y == x).unwrap_or(0);
        }
    }
    rest.iter().rposition(|y| *y == x).map_or(xs.len(), |place| xs.len() - 1 - place)
}

#[inline(always)]
fn nested<const N: usize>(xs: &[f64], lengths: [usize; N], best: impl Fn(f64, f64) -> f64) -> [Option<f64>; N] {
    let [.., newest] = *xs else { return [None; N] };
    let (mut answers, mut lanes, mut done) = ([None; N], [newest; 4], 0);
    for (answer, n) in answers.iter_mut().zip(lengths) {
        if n > xs.len() {
            break;
        }
        let (rest, chunks) = xs[xs.len() - n..xs.len() - done].as_rchunks::<4>();
        for chunk in chunks.iter().rev() {
            for i in 0..4 {
                lanes[i] = best(lanes[i], chunk[i]);
            }
        }
        done += 4 * chunks.len();
        let [a, b, c, d] = lanes;
        *answer = Some(rest.iter().fold(best(best(a, b), best(c, d)), |so_far, x| best(so_far, *x)));
    }
    answers
}

/// Unlike [`f64::max`] one instruction: nothing here is NaN.
#[inline(always)]
fn higher(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{ticks, walk};

    const LENGTHS: [usize; 6] = [1, 2, 5, 13, 28, 96];

    fn check(xs: &[f64]) {
        for seen in 0..xs.len() {
            let xs = &xs[seen.saturating_sub(96)..seen];
            let (maxima, minima) = (nested_maxima(xs, LENGTHS), nested_minima(xs, LENGTHS));
            for (i, n) in LENGTHS.into_iter().enumerate() {
                let window = xs.len().checked_sub(n).map(|from| &xs[from..]);
                let extremes = window.map(|xs| {
                    (xs.iter().copied().fold(f64::MIN, f64::max), xs.iter().copied().fold(f64::MAX, f64::min))
                });
                assert_eq!(maxima[i].zip(minima[i]), extremes, "bar {seen}, length {n}");
                assert_eq!(window.map(extent), extremes);
                if let (Some(window), Some((most, least))) = (window, extremes) {
                    let latest = |x: f64| window.iter().rev().position(|y| *y == x).unwrap();
                    assert_eq!((age_of(most, window), age_of(least, window)), (latest(most), latest(least)));
                }
            }
        }
    }

    #[test]
    fn are_the_plain_maxima_and_minima() {
        check(&walk(7, 500));
        check(&ticks(8, 500));
    }

    #[test]
    fn survive_long_falls_and_rises_and_flats() {
        check(&(0..200).map(f64::from).collect::<Vec<_>>());
        check(&(0..200).map(|i| -f64::from(i)).collect::<Vec<_>>());
        check(&[3.0; 200]);
    }

    #[test]
    fn what_is_not_there_is_older_than_all() {
        assert_eq!(age_of(5.0, &[1.0; 20]), 20);
    }
}
