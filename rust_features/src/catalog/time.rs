//! When the candle closed: day, week, funding, sessions. All UTC.

use std::f64::consts::TAU;

use super::declare::group;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// Time since Monday 00:00 UTC; the epoch was a Thursday.
fn since_monday(ms: i64) -> i64 {
    (ms + 3 * DAY).rem_euclid(WEEK)
}

/// A point on the unit circle.
#[derive(Clone, Copy)]
struct Phase {
    sin: f64,
    cos: f64,
}

impl Phase {
    /// The phase of the week, 0 on Monday 00:00.
    fn of_week(ms: i64) -> Self {
        let (sin, cos) = (TAU * since_monday(ms) as f64 / WEEK as f64).sin_cos();
        Self { sin, cos }
    }

    /// Both angles added.
    fn turned(self, by: Self) -> Self {
        Self { sin: self.sin * by.cos + self.cos * by.sin, cos: self.cos * by.cos - self.sin * by.sin }
    }

    fn tripled(self) -> Self {
        self.turned(self).turned(self)
    }

    /// The day turns seven times as fast as the week: one sine and cosine serve both.
    fn day_of_week(self) -> Self {
        let six = self.tripled().turned(self.tripled());
        six.turned(self)
    }
}

fn flag(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

group! {
    "time", x;

    indicators {
        week => Phase::of_week(x.close_time_ms);
        day => week?.day_of_week();
        // Eight hours turn three times as fast as the day.
        funding => day?.tripled();
        hour => x.close_time_ms.rem_euclid(DAY) as f64 / HOUR as f64;
    }

    features {
        tod_sin, 1, [-1, 1], "sin(2*pi*(tc mod 24h)/24h), tc = open_time + interval", "UTC close time" => day?.sin;
        tod_cos, 1, [-1, 1], "cos(2*pi*(tc mod 24h)/24h)" => day?.cos;
        dow_sin, 1, [-1, 1], "sin(2*pi*((tc+3d) mod 7d)/7d)", "phase 0 = Monday 00:00 UTC" => week?.sin;
        dow_cos, 1, [-1, 1], "cos(2*pi*((tc+3d) mod 7d)/7d)" => week?.cos;
        funding_sin, 1, [-1, 1], "sin(2*pi*(tc mod 8h)/8h)", "funding at 00, 08, 16 UTC" => funding?.sin;
        funding_cos, 1, [-1, 1], "cos(2*pi*(tc mod 8h)/8h)" => funding?.cos;
        session_asia, 1, [0, 1], "[0h <= tc mod 24h < 8h]", "UTC" => flag((0.0..8.0).contains(&hour?));
        session_europe, 1, [0, 1], "[7h <= tc mod 24h < 16h]", "UTC" => flag((7.0..16.0).contains(&hour?));
        session_us, 1, [0, 1], "[13h <= tc mod 24h < 22h]", "UTC" => flag((13.0..22.0).contains(&hour?));
        weekend, 1, [0, 1], "[(tc+3d) mod 7d >= 5d]", "Saturday and Sunday UTC" => flag(since_monday(x.close_time_ms) >= 5 * DAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::assert_close;

    #[test]
    fn one_sine_and_cosine_serve_week_day_and_funding() {
        for minute in (0..20 * 1440).step_by(7) {
            let ms = 1_700_000_000_000 + minute * 60_000;
            let week = Phase::of_week(ms);
            let (day, funding) = (week.day_of_week(), week.day_of_week().tripled());
            let angle = |period: i64| TAU * ms.rem_euclid(period) as f64 / period as f64;
            assert_close(day.sin, angle(DAY).sin(), 1e-13);
            assert_close(day.cos, angle(DAY).cos(), 1e-13);
            assert_close(funding.sin, angle(8 * HOUR).sin(), 1e-13);
            assert_close(funding.cos, angle(8 * HOUR).cos(), 1e-13);
        }
    }
}
