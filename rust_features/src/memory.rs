//! How bytes come and go: asked for before they are needed, written without a stop in the caches. No value depends on it.

use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

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

/// Bytes before they are read, at which what is copied is asked for: the processor alone asks for nothing beyond a page.
const AHEAD: usize = 4_096;

/// Copies values; past the caches if `FAR`, which saves fetching what is overwritten and nobody reads soon.
pub fn copy<T: Copy, const FAR: bool>(to: &mut [T], from: &[T]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        let (here, from) = wide::aligned(to, from, |to, from| to.copy_from_slice(from));
        // SAFETY: the processor has what the function is compiled for, and `here` lies as it must.
        #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
        return unsafe { wide::copy::<T, FAR>(here, from) };
    }
    to.copy_from_slice(from);
}

/// Values rounded to half precision (their bits); past the caches if `FAR`.
pub fn narrow<const FAR: bool>(to: &mut [u16], from: &[f32]) {
    let plain = |to: &mut [u16], from: &[f32]| to.reinterpret_cast_mut::<f16>().convert_from_f32_slice(from);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        let (here, from) = wide::aligned(to, from, plain);
        // SAFETY: the processor has what the function is compiled for, and `here` lies as it must.
        #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
        return unsafe { wide::narrow::<FAR>(here, from) };
    }
    plain(to, from);
}

/// Values of half precision (their bits) as float32; past the caches if `FAR`.
pub fn widen<const FAR: bool>(to: &mut [f32], from: &[u16]) {
    let plain = |to: &mut [f32], from: &[u16]| from.reinterpret_cast::<f16>().convert_to_f32_slice(to);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        let (here, from) = wide::aligned(to, from, plain);
        // SAFETY: the processor has what the function is compiled for, and `here` lies as it must.
        #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
        return unsafe { wide::widen::<FAR>(here, from) };
    }
    plain(to, from);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the only way past the caches")]
mod wide {
    use std::arch::x86_64::{
        __m128i, __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_sfence, _mm256_castps_si256, _mm256_cvtph_ps,
        _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set_m128i, _mm256_store_si256,
        _mm256_stream_si256,
    };

    use super::{AHEAD, Ahead, LINE};

    /// Bytes that are written at once, and to a multiple of which.
    const WIDTH: usize = 32;

    /// Puts what lies before the first and behind the last whole two times `WIDTH` of `to`; the rest is left.
    pub fn aligned<'a, T, U>(to: &'a mut [T], from: &'a [U], put: impl Fn(&mut [T], &[U])) -> (&'a mut [T], &'a [U]) {
        assert_eq!(to.len(), from.len(), "as much room as there are values");
        let head = to.as_ptr().align_offset(WIDTH).min(to.len());
        let (whole, step) = (to.len() - head, 2 * WIDTH / size_of::<T>());
        let whole = whole - whole % step;
        let (to_head, to) = to.split_at_mut(head);
        let (from_head, from) = from.split_at(head);
        let (to, to_tail) = to.split_at_mut(whole);
        let (from, from_tail) = from.split_at(whole);
        put(to_head, from_head);
        put(to_tail, from_tail);
        (to, from)
    }

    /// # Safety
    /// `to` begins at a multiple of [`WIDTH`]; both are as long, a multiple of 64 bytes.
    #[target_feature(enable = "avx")]
    pub unsafe fn copy<T: Copy, const FAR: bool>(to: &mut [T], from: &[T]) {
        let step = 2 * WIDTH / size_of::<T>();
        for (to, from) in to.chunks_exact_mut(step).zip(from.chunks_exact(step)) {
            ask(from);
            // SAFETY: both are 64 bytes.
            unsafe {
                let (to, from) = (to.as_mut_ptr().cast::<__m256i>(), from.as_ptr().cast::<__m256i>());
                put::<FAR>(to, _mm256_loadu_si256(from));
                put::<FAR>(to.add(1), _mm256_loadu_si256(from.add(1)));
            }
        }
        end::<FAR>();
    }

    /// # Safety
    /// `to` begins at a multiple of [`WIDTH`]; both are as long, a multiple of 32.
    #[target_feature(enable = "avx,f16c")]
    pub unsafe fn narrow<const FAR: bool>(to: &mut [u16], from: &[f32]) {
        for (to, from) in to.chunks_exact_mut(16).zip(from.chunks_exact(16)) {
            ask(from);
            // SAFETY: both are 16 numbers.
            unsafe {
                let half = |from: &[f32]| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
                let (low, high) = from.split_at(8);
                put::<FAR>(to.as_mut_ptr().cast(), _mm256_set_m128i(half(high), half(low)));
            }
        }
        end::<FAR>();
    }

    /// # Safety
    /// `to` begins at a multiple of [`WIDTH`]; both are as long, a multiple of 16.
    #[target_feature(enable = "avx,f16c")]
    pub unsafe fn widen<const FAR: bool>(to: &mut [f32], from: &[u16]) {
        for (to, from) in to.chunks_exact_mut(16).zip(from.chunks_exact(16)) {
            ask(from);
            // SAFETY: both are 16 numbers.
            unsafe {
                let (to, from) = (to.as_mut_ptr().cast::<__m256i>(), from.as_ptr().cast::<__m128i>());
                let single = |from| _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(from)));
                put::<FAR>(to, single(from));
                put::<FAR>(to.add(1), single(from.add(1)));
            }
        }
        end::<FAR>();
    }

    #[inline(always)]
    fn ask<T>(from: &[T]) {
        Ahead::of(&from[0]).fetch(AHEAD / LINE);
    }

    /// # Safety
    /// `to` is at a multiple of [`WIDTH`].
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn put<const FAR: bool>(to: *mut __m256i, values: __m256i) {
        // SAFETY: as promised.
        unsafe {
            if FAR {
                _mm256_stream_si256(to, values);
            } else {
                _mm256_store_si256(to, values);
            }
        }
    }

    /// What went past the caches is there before anything that comes.
    fn end<const FAR: bool>() {
        if FAR {
            // SAFETY: every processor of this kind has it.
            unsafe { _mm_sfence() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::walk;

    #[test]
    fn writes_what_it_was_given_wherever_it_lies() {
        let xs: Vec<f32> = walk(40, 100).into_iter().map(|x| x as f32).collect();
        let halves: Vec<u16> = xs.iter().map(|x| f16::from_f32(*x).to_bits()).collect();
        let rounded: Vec<f32> = halves.iter().map(|x| f16::from_bits(*x).to_f32()).collect();
        let check = |got: &[f32], first: usize, expected: &[f32]| {
            assert_eq!(got[first..first + expected.len()], *expected);
            assert!(got[..first].iter().chain(&got[first + expected.len()..]).all(|x| x.is_nan()));
        };
        for first in 0..20 {
            for len in [0, 1, 7, 8, 16, 31, 64, 80] {
                let place = first..first + len;
                for write in [copy::<f32, false>, copy::<f32, true>] {
                    let mut to = [f32::NAN; 120];
                    write(&mut to[place.clone()], &xs[..len]);
                    check(&to, first, &xs[..len]);
                }
                for write in [widen::<false>, widen::<true>] {
                    let mut to = [f32::NAN; 120];
                    write(&mut to[place.clone()], &halves[..len]);
                    check(&to, first, &rounded[..len]);
                }
                for write in [narrow::<false>, narrow::<true>] {
                    let mut to = [f16::NAN.to_bits(); 120];
                    write(&mut to[place.clone()], &xs[..len]);
                    check(&to.map(|x| f16::from_bits(x).to_f32()), first, &rounded[..len]);
                }
            }
        }
    }
}
