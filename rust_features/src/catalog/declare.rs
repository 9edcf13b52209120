//! The two small macros behind the catalogue: what a group is, and what the whole is.

/// Where a `?` of the lists ends.
#[inline(always)]
pub(super) fn scope<T>(value: impl FnOnce() -> Option<T>) -> Option<T> {
    value()
}

/// Declares a group: the indicators it keeps and the features it gives.
///
/// `indicators` run in order, each bar. `name => value;` names a value; `name: Type = new => value;` keeps an indicator and passes
/// the value through it. The lines below see an `Option` of that name; a value not known yet (`?`) reaches no indicator.
///
/// A feature that ends in a logarithm says `; k ln` and gives what it is taken of: k·ln(value), clipped to the range. The row takes
/// all logarithms at once.
macro_rules! group {
    (
        $label:literal, $x:ident;
        indicators { $( $held:ident $( : $Type:ty = $new:expr )? => $input:expr ; )* }
        features { $(
            $name:ident $( @ $version:literal )?, $warmup:literal, [$low:literal, $high:literal],
            $formula:literal $( , $convention:literal )? $( ; $scale:literal ln )? => $value:expr ;
        )* }
    ) => {
        /// The columns of this group, in order.
        pub(super) const FEATURES: [$crate::catalog::Feature; COUNT] = [ $( $crate::catalog::Feature {
            name: stringify!($name),
            group: $label,
            formula: $formula,
            convention: concat!($($convention)?),
            warmup_bars: $warmup,
            low: $low as f64,
            high: $high as f64,
            version: [$($version,)? 1][0],
            ln: [$($scale as f64,)? 0.0][0],
        } ),* ];

        const COUNT: usize = { let names: &[&str] = &[$(stringify!($name)),*]; names.len() };

        #[allow(unused_imports, reason = "a group may keep nothing")]
        use $crate::memory::Touched as _;

        /// What this group remembers of a symbol.
        #[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
        pub(super) struct Group { $( $( $held: $Type, )? )* }

        impl Group {
            /// What hardly any bar touches.
            pub(super) const RARELY: &[(usize, usize)] = &[ $( $(
                $crate::memory::within(std::mem::offset_of!(Self, $held), <$Type>::RARELY),
            )? )* ];

            pub(super) fn new() -> Self {
                Self { $( $( $held: { let new: $Type = $new; new }, )? )* }
            }

            /// Takes the bar in `x` and gives the values of this group; those that are not warm are masked later.
            #[inline(always)]
            pub(super) fn update<const WIDE: bool>(
                &mut self,
                $x: &$crate::shared::Shared,
                row: &mut [f64; COUNT],
                first: usize,
                ahead: $crate::memory::Ahead,
            ) {
                #[allow(unused_imports, reason = "a group may keep nothing")]
                use $crate::indicator::Indicator as _;
                let _ = $x;
                $(
                    let $held = $crate::catalog::declare::scope(#[inline(always)] || Some($input));
                    $( let $held = $held.and_then(#[inline(always)] |input| { let held: &mut $Type = &mut self.$held; held.update(input) }); )?
                )*
                let mut column = 0;
                $(
                    row[column] = $crate::catalog::declare::scope(#[inline(always)] || Some($value)).unwrap_or(f64::NAN);
                    $crate::catalog::fetch_share(ahead, first + column);
                    column += 1;
                )*
                debug_assert_eq!(column, COUNT);
            }
        }
    };
}

/// Joins the groups, in order, into the feature set.
macro_rules! catalog {
    ($($group:ident),*) => {
        /// Number of features.
        pub const WIDTH: usize = 0 $( + $group::FEATURES.len() )*;

        /// Every feature, in column order.
        pub static FEATURES: [Feature; WIDTH] = {
            let mut all = [candle::FEATURES[0]; WIDTH];
            let mut at = 0;
            $(
                let mut i = 0;
                while i < $group::FEATURES.len() {
                    all[at] = $group::FEATURES[i];
                    i += 1;
                    at += 1;
                }
            )*
            assert!(at == WIDTH);
            all
        };

        /// Everything a symbol's features remember of its past: fixed layout, no allocation.
        #[derive(Clone, Debug, wincode::SchemaRead, wincode::SchemaWrite)]
        pub struct State {
            shared: Shared,
            $( $group: $group::Group, )*
        }

        /// Lines of a state that hardly any bar touches.
        const RARE: [bool; STATE_LINES] = {
            let mut lines = [false; STATE_LINES];
            mark(&mut lines, std::mem::offset_of!(State, shared), Shared::RARELY);
            $( mark(&mut lines, std::mem::offset_of!(State, $group), $group::Group::RARELY); )*
            lines
        };

        impl State {
            /// Nothing seen yet.
            pub fn new() -> Self {
                Self { shared: Shared::new(), $( $group: $group::Group::new(), )* }
            }

            /// Takes the next bar and gives its row; NaN before each feature's warm-up.
            pub fn update(&mut self, candle: &Candle, extras: Extras) -> [f64; WIDTH] {
                let mut row = [[f64::NAN; WIDTH]];
                Self::update_each(&mut [self], &[(*candle, extras)], &[] as &[&Self], &mut row);
                row[0]
            }

            /// Takes the next bar of each state and gives their rows. `next` are the states of the call after this one.
            ///
            /// It goes group by group: the code of a group comes to the processor once for all states, and while they are computed
            /// the next ones come from memory, where those of a thousand symbols are.
            pub fn update_each(states: &mut [impl AsMut<Self>], bars: &[(Candle, Extras)], next: &[impl AsRef<Self>], rows: &mut [[f64; WIDTH]]) {
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has what the function is compiled for.
                    #[allow(unsafe_code, reason = "the only way to choose instructions at run time")]
                    return unsafe { Self::update_each_with_avx2(states, bars, next, rows) };
                }
                Self::update_each_with::<false>(states, bars, next, rows);
            }

            /// As [`State::update`], and the same bits, with what every processor of this kind has.
            pub fn update_on_any_processor(&mut self, candle: &Candle, extras: Extras) -> [f64; WIDTH] {
                let mut row = [[f64::NAN; WIDTH]];
                Self::update_each_with::<false>(&mut [self], &[(*candle, extras)], &[] as &[&Self], &mut row);
                row[0]
            }

            /// The same with four numbers at once. No multiplication is fused into an addition, so every bit is the same.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn update_each_with_avx2(
                states: &mut [impl AsMut<Self>],
                bars: &[(Candle, Extras)],
                next: &[impl AsRef<Self>],
                rows: &mut [[f64; WIDTH]],
            ) {
                Self::update_each_with::<true>(states, bars, next, rows);
            }

            /// `WIDE` changes nothing but gives each of the two its own copy of everything below, compiled for it.
            #[inline(always)]
            fn update_each_with<const WIDE: bool>(
                states: &mut [impl AsMut<Self>],
                bars: &[(Candle, Extras)],
                next: &[impl AsRef<Self>],
                rows: &mut [[f64; WIDTH]],
            ) {
                for (state, (candle, extras)) in states.iter_mut().zip(bars) {
                    state.as_mut().shared.update(candle, *extras);
                }
                let mut column = 0;
                $(
                    for (i, (state, row)) in states.iter_mut().zip(&mut *rows).enumerate() {
                        let state = state.as_mut();
                        // Where nobody is next, what is at hand is asked for, which costs nothing.
                        let ahead = next.get(i).map_or(Ahead::of(state), |next| Ahead::of(next.as_ref()));
                        let here = row[column..].first_chunk_mut().expect("the row holds every group");
                        state.$group.update::<WIDE>(&state.shared, here, column, ahead);
                    }
                    column += $group::FEATURES.len();
                )*
                debug_assert_eq!(column, WIDTH);
                for (state, row) in states.iter_mut().zip(rows) {
                    take_logarithms(row);
                    state.as_mut().mask(row);
                }
            }

            /// Bars seen since the (re)start.
            pub fn bars(&self) -> u32 {
                self.shared.bars
            }

            /// The warm-up is a hard mask: a value that could come earlier does not.
            fn mask(&self, row: &mut [f64; WIDTH]) {
                if self.shared.bars < WARMUP_BARS {
                    for (value, feature) in row.iter_mut().zip(&FEATURES) {
                        if self.shared.bars < feature.warmup_bars {
                            *value = f64::NAN;
                        }
                    }
                }
            }
        }

        impl AsRef<State> for State {
            fn as_ref(&self) -> &State {
                self
            }
        }

        impl AsMut<State> for State {
            fn as_mut(&mut self) -> &mut State {
                self
            }
        }

        impl Default for State {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

pub(crate) use {catalog, group};
