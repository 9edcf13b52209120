//! The filters that remember, for Python. Documented in `_rust.pyi`.

use std::sync::{Mutex, MutexGuard};

use numpy::{
    Element, PyArray, PyArray1, PyArrayMethods, PyReadonlyArray,
    ndarray::{ArrayView1, ArrayView2, Dim, Dimension},
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::portfolio::{self, BARS, Bar, Bits, Candidate, Limits, Other, Side, Tally, Units};

/// Columns of prices: open, high, low, close.
const PRICES: usize = 4;

#[pyclass(frozen, get_all, module = "candlecast._rust")]
pub(super) struct OpenPositions {
    series: Py<PyArray1<i64>>,
    side: Py<PyArray1<i8>>,
    quality: Py<PyArray1<f64>>,
    signal_ms: Py<PyArray1<i64>>,
    until_ms: Py<PyArray1<i64>>,
    entry: Py<PyArray1<f64>>,
    mark: Py<PyArray1<f64>>,
    stop_loss: Py<PyArray1<f64>>,
    take_profit: Py<PyArray1<f64>>,
}

#[pyclass(frozen, module = "candlecast._rust")]
pub(super) struct Portfolio {
    portfolio: Mutex<portfolio::Portfolio>,
}

#[pymethods]
impl Portfolio {
    #[new]
    #[pyo3(signature = (
        *, signals_per_minute_max, correlation_max, sharpe_min, score_max, position_bars_max, trade_cost, bits
    ))]
    fn new(
        signals_per_minute_max: usize,
        correlation_max: f64,
        sharpe_min: f64,
        score_max: f64,
        position_bars_max: i64,
        trade_cost: f64,
        bits: (u32, u32, u32, u32),
    ) -> Self {
        let limits =
            Limits { signals_per_minute_max, correlation_max, sharpe_min, score_max, position_bars_max, trade_cost };
        let (rate, correlated, sharpe, score) = bits;
        let bits = Bits { rate, correlated, sharpe, score };
        Self { portfolio: Mutex::new(portfolio::Portfolio::new(limits, bits)) }
    }

    #[allow(clippy::too_many_arguments, reason = "a batch is columns")]
    fn judge<'py>(
        &self,
        py: Python<'py>,
        series: &Bound<'py, PyAny>,
        interval_ms: &Bound<'py, PyAny>,
        close_time_ms: &Bound<'py, PyAny>,
        ohlc: &Bound<'py, PyAny>,
        side: &Bound<'py, PyAny>,
        quality: &Bound<'py, PyAny>,
        stop_loss: &Bound<'py, PyAny>,
        take_profit: &Bound<'py, PyAny>,
        passes: &Bound<'py, PyAny>,
        forming: &Bound<'py, PyAny>,
        past: &Bound<'py, PyAny>,
        others: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let series = column::<i64, 1>("series", series)?;
        let series = numbers(series.as_array())?;
        let n = series.len();
        let interval_ms = sized::<i64, 1>("interval_ms", interval_ms, [n])?;
        let close_time_ms = sized::<i64, 1>("close_time_ms", close_time_ms, [n])?;
        let ohlc = sized::<f64, 2>("ohlc", ohlc, [n, PRICES])?;
        let side = sized::<i8, 1>("side", side, [n])?;
        let quality = sized::<f64, 1>("quality", quality, [n])?;
        let stop_loss = sized::<f64, 1>("stop_loss", stop_loss, [n])?;
        let take_profit = sized::<f64, 1>("take_profit", take_profit, [n])?;
        let passes = sized::<bool, 1>("passes", passes, [n])?;
        let forming = sized::<bool, 1>("forming", forming, [n])?;
        let past = sized::<f32, 2>("past", past, [n, BARS])?;
        let (interval_ms, close_time_ms, ohlc) = (interval_ms.as_array(), close_time_ms.as_array(), ohlc.as_array());
        let (side, quality, stop_loss) = (side.as_array(), quality.as_array(), stop_loss.as_array());
        let (take_profit, passes, forming) = (take_profit.as_array(), passes.as_array(), forming.as_array());
        let past = past.as_array();
        positive(interval_ms)?;
        let given: Vec<_> = (0..n)
            .map(|i| Candidate {
                series: series[i],
                interval_ms: interval_ms[i],
                close_time_ms: close_time_ms[i],
                bar: bar(&ohlc, i),
                newest: past[[i, BARS - 1]],
                side: side_of(side[i]),
                quality: quality[i],
                stop_loss: stop_loss[i],
                take_profit: take_profit[i],
                passes: passes[i],
                forming: forming[i],
            })
            .collect();
        let others = match others {
            Some((series, close_time_ms, ohlc)) => read_others(&series, &close_time_ms, &ohlc)?,
            None => Vec::new(),
        };
        let bits = self.portfolio()?.judge(&given, |i, k| past[[i, k]], &others);
        Ok(PyArray1::from_vec(py, bits))
    }

    fn follow(
        &self,
        series: &Bound<'_, PyAny>,
        close_time_ms: &Bound<'_, PyAny>,
        ohlc: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let others = read_others(series, close_time_ms, ohlc)?;
        self.portfolio()?.follow(&others);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "a row of a table")]
    fn reopen(
        &self,
        series: usize,
        side: i8,
        quality: f64,
        close_ms: i64,
        interval_ms: i64,
        price: f64,
        stop_loss: f64,
        take_profit: f64,
    ) -> PyResult<()> {
        let Some(direction) = side_of(side) else {
            return Err(PyValueError::new_err(format!("side must be 1 or -1, not {side}")));
        };
        let given = Candidate {
            series,
            interval_ms,
            close_time_ms: close_ms,
            bar: Bar { open: price, high: price, low: price, close: price },
            newest: f32::NAN,
            side: Some(direction),
            quality,
            stop_loss,
            take_profit,
            passes: true,
            forming: false,
        };
        self.portfolio()?.reopen(&given, direction);
        Ok(())
    }

    fn remember(
        &self,
        series: &Bound<'_, PyAny>,
        close_time_ms: &Bound<'_, PyAny>,
        reasons: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let series = column::<i64, 1>("series", series)?;
        let series = numbers(series.as_array())?;
        let close_time_ms = sized::<i64, 1>("close_time_ms", close_time_ms, [series.len()])?;
        let reasons = sized::<u32, 1>("reasons", reasons, [series.len()])?;
        let mut portfolio = self.portfolio()?;
        for (i, series) in series.into_iter().enumerate() {
            portfolio.remember(series, close_time_ms.as_array()[i], reasons.as_array()[i]);
        }
        Ok(())
    }

    fn take_returns(
        &self,
        series: &Bound<'_, PyAny>,
        bar: &Bound<'_, PyAny>,
        interval_ms: &Bound<'_, PyAny>,
        past: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let series = column::<i64, 1>("series", series)?;
        let series = numbers(series.as_array())?;
        let bar = sized::<i64, 1>("bar", bar, [series.len()])?;
        let interval_ms = sized::<i64, 1>("interval_ms", interval_ms, [series.len()])?;
        let past = sized::<f32, 2>("past", past, [series.len(), BARS])?;
        let (bar, interval_ms, past) = (bar.as_array(), interval_ms.as_array(), past.as_array());
        let mut portfolio = self.portfolio()?;
        for (i, series) in series.into_iter().enumerate() {
            portfolio.returns.take(series, bar[i], interval_ms[i], past[[i, BARS - 1]], |k| past[[i, k]]);
        }
        Ok(())
    }

    fn count(&self, series: usize, trades: u64, total: f64, squares: f64, first_ms: i64, last_ms: i64) -> PyResult<()> {
        self.portfolio()?.positions.count(series, &Tally { trades, total, squares, first_ms, last_ms });
        Ok(())
    }

    fn forget_trades(&self) -> PyResult<()> {
        self.portfolio()?.positions.forget_trades();
        Ok(())
    }

    fn trades(&self, series: usize) -> PyResult<(u64, f64, f64)> {
        let tally = self.portfolio()?.positions.tally(series);
        Ok((tally.trades, tally.total, tally.sharpe()))
    }

    fn correlation(&self, a: usize, b: usize) -> PyResult<f64> {
        Ok(self.portfolio()?.returns.correlation(a, b, &mut Units::default(), &mut Units::default()))
    }

    #[getter]
    fn signals_ms(&self) -> PyResult<Vec<i64>> {
        Ok(self.portfolio()?.signals_ms().collect())
    }

    #[getter]
    fn is_flat(&self) -> PyResult<bool> {
        Ok(self.portfolio()?.positions.open.is_empty())
    }

    #[getter]
    fn open(&self, py: Python<'_>) -> PyResult<OpenPositions> {
        let portfolio = self.portfolio()?;
        let open = &portfolio.positions.open;
        fn column<T: Element, P>(py: Python<'_>, open: &[P], of: impl Fn(&P) -> T) -> Py<PyArray1<T>> {
            PyArray1::from_iter(py, open.iter().map(of)).unbind()
        }
        Ok(OpenPositions {
            series: column(py, open, |held| held.series as i64),
            side: column(py, open, |held| held.side.sign() as i8),
            quality: column(py, open, |held| held.quality),
            signal_ms: column(py, open, |held| held.signal_ms),
            until_ms: column(py, open, |held| held.until_ms),
            entry: column(py, open, |held| held.entry),
            mark: column(py, open, |held| held.mark),
            stop_loss: column(py, open, |held| held.stop_loss),
            take_profit: column(py, open, |held| held.take_profit),
        })
    }
}

impl Portfolio {
    fn portfolio(&self) -> PyResult<MutexGuard<'_, portfolio::Portfolio>> {
        self.portfolio
            .lock()
            .map_err(|_| PyRuntimeError::new_err("an earlier call failed half way: this state is lost"))
    }
}

fn read_others(
    series: &Bound<'_, PyAny>,
    close_time_ms: &Bound<'_, PyAny>,
    ohlc: &Bound<'_, PyAny>,
) -> PyResult<Vec<Other>> {
    let series = column::<i64, 1>("series", series)?;
    let series = numbers(series.as_array())?;
    let close_time_ms = sized::<i64, 1>("close_time_ms", close_time_ms, [series.len()])?;
    let ohlc = sized::<f64, 2>("ohlc", ohlc, [series.len(), PRICES])?;
    let (close_time_ms, ohlc) = (close_time_ms.as_array(), ohlc.as_array());
    let other = |(i, series)| Other { series, close_time_ms: close_time_ms[i], bar: bar(&ohlc, i) };
    Ok(series.into_iter().enumerate().map(other).collect())
}

fn bar(ohlc: &ArrayView2<'_, f64>, i: usize) -> Bar {
    Bar { open: ohlc[[i, 0]], high: ohlc[[i, 1]], low: ohlc[[i, 2]], close: ohlc[[i, 3]] }
}

fn side_of(sign: i8) -> Option<Side> {
    match sign {
        1 => Some(Side::Long),
        -1 => Some(Side::Short),
        _ => None,
    }
}

fn numbers(series: ArrayView1<'_, i64>) -> PyResult<Vec<usize>> {
    series
        .iter()
        .map(|&number| usize::try_from(number).map_err(|_| PyValueError::new_err(format!("{number} is no series"))))
        .collect()
}

fn positive(interval_ms: ArrayView1<'_, i64>) -> PyResult<()> {
    match interval_ms.iter().find(|&&ms| ms < 1) {
        Some(ms) => Err(PyValueError::new_err(format!("interval_ms must be at least 1, not {ms}"))),
        None => Ok(()),
    }
}

/// An input array of any strides.
fn column<'py, T: Element, const D: usize>(
    name: &str,
    any: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray<'py, T, Dim<[usize; D]>>>
where
    Dim<[usize; D]>: Dimension,
{
    let array = any.cast::<PyArray<T, Dim<[usize; D]>>>().map_err(|_| {
        let dtype = T::get_dtype(any.py());
        PyTypeError::new_err(format!("{name} must be a NumPy array of {dtype} with {D} dimensions"))
    })?;
    array
        .try_readonly()
        .map_err(|_| PyValueError::new_err(format!("{name} must not be an array that is being written")))
}

fn sized<'py, T: Element, const D: usize>(
    name: &str,
    any: &Bound<'py, PyAny>,
    shape: [usize; D],
) -> PyResult<PyReadonlyArray<'py, T, Dim<[usize; D]>>>
where
    Dim<[usize; D]>: Dimension,
{
    let array = column::<T, D>(name, any)?;
    if array.as_array().shape() != shape {
        return Err(PyValueError::new_err(format!("{name} must have shape {shape:?}")));
    }
    Ok(array)
}
