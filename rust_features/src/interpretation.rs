//! What a model's 20 outputs mean, one row at a time: returns, probabilities of the horizons, risks, and what follows.

/// Outputs of a model.
pub const OUTPUTS: usize = 20;
/// Horizons of a forecast.
pub const HORIZONS: usize = 4;
/// LONG, SHORT, NEUTRAL.
pub const CLASSES: usize = 3;
/// Weight of each horizon.
pub const WEIGHTS: [f64; HORIZONS] = [0.25, 0.25, 0.35, 0.15];
const LOGITS: usize = 4;
const RISKS: usize = 16;
/// Of the risks: drawdown and rally at 4 hours.
const RISKS_4H: usize = 2;
/// Weighted absolute return from which on its size counts in full.
const SIZE_FULL: f64 = 0.015;
const STOP_LOSS: (f64, f64) = (0.005, 0.025);
const TAKE_PROFIT: (f64, f64) = (0.01, 0.05);

/// One forecast; of outputs that are not finite everything but `returns` and `risks` is NaN, and it has no side.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are what values.Interpretation says")]
pub struct Meaning {
    /// 1 LONG, -1 SHORT, 0 none.
    pub side: i8,
    pub finite: bool,
    pub confidence: f64,
    pub agreement: f64,
    pub moves: f64,
    pub edge: f64,
    pub quality: f64,
    pub returns: [f64; HORIZONS],
    pub probabilities: [[f64; CLASSES]; HORIZONS],
    pub risks: [f64; 4],
    pub stop_loss: f64,
    pub take_profit: f64,
}

/// Read a row of outputs with the calibration temperatures of its horizons.
pub fn interpret(outputs: [f32; OUTPUTS], temperatures: [f64; HORIZONS]) -> Meaning {
    let raw = outputs.map(f64::from);
    let (returns, risks) = (part::<HORIZONS>(&raw, 0), part::<4>(&raw, RISKS));
    if !raw.iter().all(|x| x.is_finite()) {
        return Meaning {
            side: 0,
            finite: false,
            confidence: f64::NAN,
            agreement: f64::NAN,
            moves: f64::NAN,
            edge: f64::NAN,
            quality: f64::NAN,
            returns,
            probabilities: [[f64::NAN; CLASSES]; HORIZONS],
            risks,
            stop_loss: f64::NAN,
            take_profit: f64::NAN,
        };
    }
    let probabilities: [_; HORIZONS] =
        std::array::from_fn(|h| softmax(part(&raw, LOGITS + h * CLASSES), temperatures[h]));
    let lean = probabilities.map(|[long, short, _]| long - short);
    let moves = probabilities.map(|[long, short, _]| long + short);
    let edge = weighted(lean);
    let sign = sign(edge);
    // s on the LONG side, 1 - s on the SHORT side; the same for the risks: drawdown is adverse to LONG.
    let long_given_move: [_; HORIZONS] =
        std::array::from_fn(|h| if moves[h] == 0.0 { 0.5 } else { probabilities[h][0] / moves[h] });
    let confidence = weighted(long_given_move.map(|s| 0.5 + sign * (s - 0.5)));
    let agreement = weighted(lean.map(|lean| if sign != 0.0 && self::sign(lean) == sign { 1.0 } else { 0.0 }));
    let (drawdown, rally) = (risks[RISKS_4H].max(0.0), risks[RISKS_4H + 1].max(0.0));
    let (adverse, favourable) = if edge < 0.0 { (rally, drawdown) } else { (drawdown, rally) };
    let both = adverse + favourable;
    let risk = if both == 0.0 { 0.5 } else { adverse / both };
    let size = (weighted(returns.map(f64::abs)) / SIZE_FULL).min(1.0);
    Meaning {
        side: sign as i8,
        finite: true,
        confidence,
        agreement,
        moves: weighted(moves),
        edge,
        quality: 0.35 * agreement + 0.30 * confidence + 0.20 * size + 0.15 * (1.0 - risk),
        returns,
        probabilities,
        risks,
        stop_loss: adverse.clamp(STOP_LOSS.0, STOP_LOSS.1),
        take_profit: favourable.clamp(TAKE_PROFIT.0, TAKE_PROFIT.1),
    }
}

fn part<const N: usize>(raw: &[f64; OUTPUTS], start: usize) -> [f64; N] {
    std::array::from_fn(|k| raw[start + k])
}

fn softmax(logits: [f64; CLASSES], temperature: f64) -> [f64; CLASSES] {
    let scaled = logits.map(|x| x / temperature);
    let highest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts = scaled.map(|x| (x - highest).exp());
    let total: f64 = parts.iter().sum();
    parts.map(|part| part / total)
}

fn weighted(values: [f64; HORIZONS]) -> f64 {
    values.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum()
}

/// 1, -1 or 0, which `f64::signum` never is.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
