//! Closed sets of words that cross the border as small numbers.

/// Declares an enum whose variants have public names; the code of a variant is its place in `NAMES`.
macro_rules! codes {
    ($(#[$doc:meta])* $Name:ident { $( $(#[$about:meta])* $Variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $Name { $( $(#[$about])* $Variant, )* }

        impl $Name {
            /// The public names, in code order.
            pub const NAMES: &[&str] = &[$($text),*];

            /// The public name.
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

pub(crate) use codes;
