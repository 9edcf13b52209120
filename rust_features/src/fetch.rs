//! Memory asked for before it is needed. It changes no value.

/// Bytes that come at a time.
const LINE: usize = 64;

/// Asks for part `part` of `PARTS` of a value, so that it is at hand when it is read.
#[inline(always)]
pub fn fetch<T, const PARTS: usize>(value: &T, part: usize) {
    let lines = const { size_of::<T>().div_ceil(LINE).div_ceil(PARTS) };
    for line in part * lines..(part + 1) * lines {
        fetch_line(value, line);
    }
}

/// Asks for one line of a value.
#[inline(always)]
pub fn fetch_line<T>(value: &T, line: usize) {
    let first: *const i8 = std::ptr::from_ref(value).cast();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: what is asked for is never read here, and an address that does not exist is ignored.
    #[allow(unsafe_code, reason = "the only way to ask")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(first.wrapping_add(line * LINE));
    }
}
