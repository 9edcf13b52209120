//! How bytes come and go: asked for before they are needed, written without a stop in the caches. No value depends on it.

use half::{f16, slice::HalfFloatSliceExt};

/// Bytes that come at a time.
pub const LINE: usize = 64;

/// What will be needed soon, asked for line by line while something else is computed: asking for much at once would stall.
#[derive(Clone, Copy)]
pub struct Ahead(*const i8);

/// What hardly any bar touches of a value, in bytes from its beginning: not worth asking for. A type that has such a part has a
/// constant of this name of its own, which goes before this one.
pub trait Touched {
    /// From, to.
    const RARELY: (usize, usize) = (0, 0);
}

impl<T> Touched for T {}

/// The part of a value that begins `offset` bytes into another one, in bytes of that one.
pub const fn within(offset: usize, (from, to): (usize, usize)) -> (usize, usize) {
    (offset + from, offset + to)
}

/// A field, as a part of its struct.
macro_rules! part {
    ($field:ident: $Type:ty) => {{
        let from = std::mem::offset_of!(Self, $field);
        (from, from + size_of::<$Type>())
    }};
}
pub(crate) use part;

/// Marks the lines that lie wholly in parts of the value that begins at `offset`.
pub const fn mark<const LINES: usize>(lines: &mut [bool; LINES], offset: usize, parts: &[(usize, usize)]) {
    let mut i = 0;
    while i < parts.len() {
        let (from, to) = within(offset, parts[i]);
        let mut line = from.div_ceil(LINE);
        while (line + 1) * LINE <= to {
            lines[line] = true;
            line += 1;
        }
        i += 1;
    }
}

impl Ahead {
    /// Of a value.
    #[inline(always)]
    pub fn of<T>(value: &T) -> Self {
        Self(std::ptr::from_ref(value).cast())
    }

    /// Asks for a line of it.
    #[inline(always)]
    pub fn fetch(self, line: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: what is asked for is not read here, and an address that does not exist is ignored.
        #[allow(unsafe_code, reason = "the only way to ask")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(self.0.wrapping_add(line * LINE));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// Copies values to where nobody reads them soon: past the caches, which saves fetching what is overwritten.
pub fn write_f32(to: &mut [f32], from: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        let (here, from) = wide::aligned(to, from, |to, from| to.copy_from_slice(from));
        // SAFETY: the processor has what the function is compiled for, and `here` lies as it must.
        #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
        return unsafe { wide::write_f32(here, from) };
    }
    to.copy_from_slice(from);
}

/// Values rounded to half precision, past the caches if `FAR`.
pub fn write_f16<const FAR: bool>(to: &mut [f16], from: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        let (here, from) = wide::aligned(to, from, |to, from| to.convert_from_f32_slice(from));
        // SAFETY: the processor has what the function is compiled for, and `here` lies as it must.
        #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
        return unsafe { wide::write_f16::<FAR>(here, from) };
    }
    to.convert_from_f32_slice(from);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the only way past the caches")]
mod wide {
    use std::arch::x86_64::{
        __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_sfence, _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_set_m128i,
        _mm256_store_si256, _mm256_stream_ps, _mm256_stream_si256,
    };

    use half::f16;

    /// Bytes that are written at once, and to a multiple of which.
    const WIDTH: usize = 32;

    /// Puts what lies before the first and behind the last whole `WIDTH` of `to`; the rest is left.
    pub fn aligned<'a, T>(
        to: &'a mut [T],
        from: &'a [f32],
        put: impl Fn(&mut [T], &[f32]),
    ) -> (&'a mut [T], &'a [f32]) {
        assert_eq!(to.len(), from.len(), "as much room as there are values");
        let head = to.as_ptr().align_offset(WIDTH).min(to.len());
        let whole = (to.len() - head) * size_of::<T>() / WIDTH * WIDTH / size_of::<T>();
        let (to_head, to) = to.split_at_mut(head);
        let (from_head, from) = from.split_at(head);
        let (to, to_tail) = to.split_at_mut(whole);
        let (from, from_tail) = from.split_at(whole);
        put(to_head, from_head);
        put(to_tail, from_tail);
        (to, from)
    }

    /// # Safety
    /// `to` begins at a multiple of [`WIDTH`]; both are as long, a multiple of 8.
    #[target_feature(enable = "avx")]
    pub unsafe fn write_f32(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.chunks_exact_mut(8).zip(from.chunks_exact(8)) {
            // SAFETY: both are 8 numbers.
            unsafe { _mm256_stream_ps(to.as_mut_ptr(), _mm256_loadu_ps(from.as_ptr())) };
        }
        _mm_sfence();
    }

    /// # Safety
    /// `to` begins at a multiple of [`WIDTH`]; both are as long, a multiple of 16.
    #[target_feature(enable = "avx,f16c")]
    pub unsafe fn write_f16<const FAR: bool>(to: &mut [f16], from: &[f32]) {
        for (to, from) in to.chunks_exact_mut(16).zip(from.chunks_exact(16)) {
            // SAFETY: both are 16 numbers.
            unsafe {
                let half = |from: &[f32]| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
                let (low, high) = from.split_at(8);
                let (to, halves) = (to.as_mut_ptr().cast::<__m256i>(), _mm256_set_m128i(half(high), half(low)));
                if FAR { _mm256_stream_si256(to, halves) } else { _mm256_store_si256(to, halves) }
            }
        }
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn writes_what_it_was_given_wherever_it_lies() {
        let xs: Vec<f32> = walk(40, 100).into_iter().map(|x| x as f32).collect();
        for first in 0..20 {
            for len in [0, 1, 7, 8, 16, 31, 64, 80] {
                let (mut wide, mut narrow) = ([f32::NAN; 120], [f16::NAN; 120]);
                write_f32(&mut wide[first..first + len], &xs[..len]);
                assert_eq!(wide[first..first + len], xs[..len]);
                assert!(wide[..first].iter().chain(&wide[first + len..]).all(|x| x.is_nan()));
                for write in [write_f16::<false>, write_f16::<true>] {
                    write(&mut narrow[first..first + len], &xs[..len]);
                    let rounded: Vec<f16> = xs[..len].iter().map(|x| f16::from_f32(*x)).collect();
                    assert_eq!(narrow[first..first + len], rounded);
                    assert!(narrow[..first].iter().chain(&narrow[first + len..]).all(|x| x.is_nan()));
                }
            }
        }
    }
}
