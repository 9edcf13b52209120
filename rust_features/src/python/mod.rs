//! All that knows Python: arrays in, arrays out, the GIL released, errors mapped. Documented in `_rust.pyi`.

mod door;
mod interpretation;
mod order_flow;
mod portfolio;
mod records;

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use half::f16;
use numpy::{
    Element, PyArray1, PyArray2, PyArrayDescrMethods, PyArrayMethods, PyFixedString, PyReadonlyArray, PyReadwriteArray,
    PyUntypedArray, PyUntypedArrayMethods,
    ndarray::{Dim, Dimension},
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList, PyString, PyTuple},
};

use crate::{
    candle::{Field, Reason, Refusal, Values},
    catalog::{FEATURES, NEED, WIDTH, WINDOW},
    engine::Precision,
    extras::OptionalInputs,
    market::{self, Input, Outcome, Settings, State, Verdict, Windows},
    order_flow::{Taken, Undefined},
    symbol::Symbol,
};

/// Columns of `values`: open, high, low, close, volume, quote_volume, trades, taker_buy_volume.
const CANDLE_VALUES: usize = 8;

#[pymodule(name = "_rust")]
mod module {
    use super::*;

    #[pymodule_export]
    use super::door::Door;
    #[pymodule_export]
    use super::interpretation::{Meaning, interpret};
    #[pymodule_export]
    use super::order_flow::{FlowPushed, FlowStatus, OrderFlow};
    #[pymodule_export]
    use super::portfolio::{OpenPositions, Portfolio};
    #[pymodule_export]
    use super::records::interleave;
    #[pymodule_export]
    use super::{Feature, Market, Pushed, Status, catalog, crc32c, feature_set_hash};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let names = |none: Option<&'static str>, names: &[&'static str]| {
            PyTuple::new(module.py(), none.into_iter().chain(names.iter().copied()).collect::<Vec<_>>())
        };
        module.add("WINDOW", WINDOW)?;
        module.add("FEATURE_SET", crate::catalog::FEATURE_SET)?;
        module.add("OPTIONAL_INPUTS", names(None, &OptionalInputs::NAMES)?)?;
        module.add("HORIZON_WEIGHTS", PyTuple::new(module.py(), crate::interpretation::WEIGHTS)?)?;
        module.add("VERDICTS", names(None, Verdict::NAMES)?)?;
        module.add("STATES", names(None, State::NAMES)?)?;
        module.add("FLOW_TAKEN", names(None, Taken::NAMES)?)?;
        module.add("FLOW_UNDEFINED", names(None, Undefined::NAMES)?)?;
        // Code 0 says that nothing was refused.
        module.add("FIELDS", names(Some(""), Field::NAMES)?)?;
        module.add("REASONS", names(Some(""), Reason::NAMES)?)
    }
}

#[pyclass(frozen, get_all, module = "candlecast._rust")]
struct Feature {
    index: usize,
    name: &'static str,
    group: &'static str,
    formula: &'static str,
    convention: &'static str,
    warmup_bars: u32,
    low: f64,
    high: f64,
    version: u32,
}

#[pyfunction]
fn catalog() -> Vec<Feature> {
    let feature = |(index, feature): (usize, &crate::catalog::Feature)| {
        let crate::catalog::Feature { name, group, formula, convention, warmup_bars, low, high, version, .. } =
            *feature;
        Feature { index, name, group, formula, convention, warmup_bars, low, high, version }
    };
    FEATURES.iter().enumerate().map(feature).collect()
}

#[pyfunction]
#[pyo3(signature = (optional_inputs = Vec::new()))]
fn feature_set_hash(optional_inputs: Vec<String>) -> PyResult<u64> {
    Ok(crate::catalog::feature_set_hash(named(&optional_inputs)?))
}

#[pyfunction]
fn crc32c(py: Python<'_>, data: &[u8]) -> u32 {
    py.detach(|| crate::snapshot::crc32c(data))
}

#[pyclass(frozen, get_all, module = "candlecast._rust")]
struct Status {
    state: u8,
    have: u32,
    need: u32,
    newest_open_time_ms: Option<i64>,
    conflicts: u64,
    gap_filled: bool,
}

#[pyclass(frozen, get_all, module = "candlecast._rust")]
struct Pushed {
    verdict: Py<PyArray1<u8>>,
    field: Py<PyArray1<u8>>,
    reason: Py<PyArray1<u8>>,
    state: Py<PyArray1<u8>>,
    have: Py<PyArray1<u32>>,
    gap_filled: Py<PyArray1<bool>>,
    window: Py<PyArray1<i32>>,
    features_hash: Py<PyArray1<u64>>,
    still: Py<PyArray1<u32>>,
    close: Py<PyArray1<f64>>,
    open_time_ms: Py<PyArray1<i64>>,
    ready: usize,
    core_ns: u64,
}

impl Pushed {
    fn new(py: Python<'_>, (market::Pushed { outcomes, ready }, core_ns): (market::Pushed, u64)) -> Self {
        fn column<T: Element>(py: Python<'_>, outcomes: &[Outcome], of: impl Fn(&Outcome) -> T) -> Py<PyArray1<T>> {
            PyArray1::from_iter(py, outcomes.iter().map(of)).unbind()
        }
        let code =
            |of: fn(Refusal) -> u8| move |outcome: &Outcome| outcome.refusal.map_or(0, |refusal| of(refusal) + 1);
        Self {
            verdict: column(py, &outcomes, |outcome| outcome.verdict as u8),
            field: column(py, &outcomes, code(|refusal| refusal.field as u8)),
            reason: column(py, &outcomes, code(|refusal| refusal.reason as u8)),
            state: column(py, &outcomes, |outcome| outcome.state as u8),
            have: column(py, &outcomes, |outcome| outcome.have),
            gap_filled: column(py, &outcomes, |outcome| outcome.gap_filled),
            window: column(py, &outcomes, |outcome| outcome.window.map_or(-1, |window| window as i32)),
            features_hash: column(py, &outcomes, |outcome| outcome.features_hash),
            still: column(py, &outcomes, |outcome| outcome.still),
            close: column(py, &outcomes, |outcome| outcome.close),
            open_time_ms: column(py, &outcomes, |outcome| outcome.open_time_ms),
            ready,
            core_ns,
        }
    }
}

#[pyclass(frozen, module = "candlecast._rust")]
struct Market {
    market: Mutex<market::Market>,
    #[pyo3(get)]
    need: u32,
}

#[pymethods]
impl Market {
    #[new]
    #[pyo3(signature = (
        *, symbols_max = 20_000, conflicts_max = 3, optional_inputs = Vec::new(), reference_symbol = None, threads = 1,
        ring = "f32"
    ))]
    fn new(
        symbols_max: usize,
        conflicts_max: usize,
        optional_inputs: Vec<String>,
        reference_symbol: Option<&str>,
        threads: usize,
        ring: &str,
    ) -> PyResult<Self> {
        if symbols_max == 0 || conflicts_max == 0 || threads == 0 {
            return Err(PyValueError::new_err("symbols_max, conflicts_max and threads must be at least 1"));
        }
        let used = named(&optional_inputs)?;
        let reference = reference_symbol.map(known).transpose()?;
        if used.reference && reference.is_none() {
            return Err(PyValueError::new_err("the optional input 'reference' needs a reference_symbol"));
        }
        let rows = match ring {
            "f32" => Precision::Single,
            "f16" => Precision::Half,
            other => return Err(PyValueError::new_err(format!("ring must be 'f32' or 'f16', not {other:?}"))),
        };
        let settings = Settings { symbols_max, conflicts_max, used, reference, threads, rows };
        Ok(Self { market: Mutex::new(market::Market::new(settings)), need: NEED })
    }

    #[pyo3(signature = (symbols, interval_ms, open_time_ms, values, forming, now_ms, windows, rows = None))]
    #[allow(clippy::too_many_arguments, reason = "a batch is columns")]
    fn push(
        &self,
        py: Python<'_>,
        symbols: &Bound<'_, PyAny>,
        interval_ms: &Bound<'_, PyAny>,
        open_time_ms: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        forming: &Bound<'_, PyAny>,
        now_ms: i64,
        windows: &Bound<'_, PyAny>,
        rows: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Pushed> {
        let symbols = parse(symbols)?;
        let n = symbols.len();
        let interval_ms = column::<i64, 1>("interval_ms", interval_ms, [n])?;
        let open_time_ms = column::<i64, 1>("open_time_ms", open_time_ms, [n])?;
        let values = column::<f64, 2>("values", values, [n, CANDLE_VALUES])?;
        let forming = column::<bool, 1>("forming", forming, [n])?;
        let mut windows = Buffer::of("windows", n, windows)?;
        let mut rows =
            rows.map(|rows| writable::<f32, 2>("rows", rows, |[m, width]| m == n && width == WIDTH)).transpose()?;
        let (interval_ms, open_time_ms) = (interval_ms.as_slice()?, open_time_ms.as_slice()?);
        let (values, forming, windows) = (values.as_slice()?, forming.as_slice()?, windows.windows()?);
        let rows = rows.as_mut().map_or(Ok(&mut [][..]), |rows| rows.as_slice_mut())?;
        let pushed = py.detach(|| {
            let (values, _) = values.as_chunks::<CANDLE_VALUES>();
            let input = |i: usize| Input {
                symbol: symbols[i],
                values: candle(interval_ms[i], open_time_ms[i], values[i]),
                forming: forming[i],
            };
            let batch: Vec<Input> = (0..n).map(input).collect();
            let mut market = self.market()?;
            Ok::<_, PyErr>(timed(|| market.push_for_rows(&batch, now_ms, windows, rows)))
        })?;
        Ok(Pushed::new(py, pushed))
    }

    fn windows_into(
        &self,
        py: Python<'_>,
        out: &Bound<'_, PyAny>,
        symbols: &Bound<'_, PyAny>,
        interval_ms: i64,
        now_ms: i64,
    ) -> PyResult<Pushed> {
        let symbols = parse(symbols)?;
        let mut out = Buffer::of("out", symbols.len(), out)?;
        let windows = out.windows()?;
        let pushed = py.detach(|| {
            let keys: Vec<_> = symbols.iter().map(|symbol| (*symbol, interval_ms)).collect();
            let market = self.market()?;
            Ok::<_, PyErr>(timed(|| market.windows(&keys, now_ms, windows)))
        })?;
        Ok(Pushed::new(py, pushed))
    }

    fn symbols(&self, py: Python<'_>) -> PyResult<Vec<(String, i64)>> {
        let known = py.detach(|| Ok::<_, PyErr>(self.market()?.symbols()))?;
        Ok(known.into_iter().map(|(symbol, interval_ms)| (symbol.to_string(), interval_ms)).collect())
    }

    fn snapshot<'py>(&self, py: Python<'py>, symbol: &str, interval_ms: i64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let symbol = known(symbol)?;
        let bytes = py.detach(|| Ok::<_, PyErr>(self.market()?.snapshot(symbol, interval_ms)))?;
        Ok(bytes.map(|bytes| PyBytes::new(py, &bytes)))
    }

    fn restore(&self, py: Python<'_>, snapshot: &[u8]) -> PyResult<(String, i64)> {
        let restored = py.detach(|| Ok::<_, PyErr>(self.market()?.restore(snapshot)))?;
        let (symbol, interval_ms) = restored.map_err(|unusable| PyValueError::new_err(unusable.to_string()))?;
        Ok((symbol.to_string(), interval_ms))
    }

    fn status(&self, py: Python<'_>, symbol: &str, interval_ms: i64, now_ms: i64) -> PyResult<Status> {
        let symbol = known(symbol)?;
        let status = py.detach(|| Ok::<_, PyErr>(self.market()?.status(symbol, interval_ms, now_ms)))?;
        Ok(Status {
            state: status.state as u8,
            have: status.have,
            need: NEED,
            newest_open_time_ms: status.newest_open_time_ms,
            conflicts: status.conflicts,
            gap_filled: status.gap_filled,
        })
    }

    fn count_conflict(&self, py: Python<'_>, symbol: &str, interval_ms: i64) -> PyResult<()> {
        let symbol = known(symbol)?;
        py.detach(|| {
            self.market()?.count_conflict(symbol, interval_ms);
            Ok(())
        })
    }

    fn rows<'py>(&self, py: Python<'py>, symbol: &str, interval_ms: i64) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let symbol = known(symbol)?;
        let rows = py.detach(|| Ok::<_, PyErr>(self.market()?.rows(symbol, interval_ms)))?;
        let shape = [rows.len() / WIDTH, WIDTH];
        PyArray1::from_vec(py, rows).reshape(shape)
    }
}

impl Market {
    fn market(&self) -> PyResult<MutexGuard<'_, market::Market>> {
        // A panic half way through a batch leaves a state nobody has checked.
        self.market.lock().map_err(|_| PyRuntimeError::new_err("an earlier call failed half way: this market is lost"))
    }
}

/// What it gives, and nanoseconds it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed().as_nanos() as u64)
}

/// Optional inputs by their names.
fn named(names: &[String]) -> PyResult<OptionalInputs> {
    OptionalInputs::named(names.iter().map(String::as_str)).map_err(|unknown| {
        let known = OptionalInputs::NAMES.join(", ");
        PyValueError::new_err(format!("{unknown:?} is no optional input: there are {known}"))
    })
}

fn candle(interval_ms: i64, open_time_ms: i64, values: [f64; CANDLE_VALUES]) -> Values {
    let [open, high, low, close, volume, quote_volume, trades, taker_buy_volume] = values;
    Values { interval_ms, open_time_ms, open, high, low, close, volume, quote_volume, trades, taker_buy_volume }
}

/// A symbol that is asked for by name: a malformed one is the caller's mistake.
fn known(symbol: &str) -> PyResult<Symbol> {
    symbol.parse().map_err(|_| PyValueError::new_err(format!("{symbol:?} is not 1-32 characters of [A-Z0-9._:/-]")))
}

/// Names of a batch, as a list or as an array of 32 bytes each: a malformed one is refused in its place, a thing that is no name is
/// the caller's mistake.
fn parse(symbols: &Bound<'_, PyAny>) -> PyResult<Vec<Result<Symbol, Refusal>>> {
    if let Ok(names) = symbols.cast::<PyArray1<PyFixedString<{ Symbol::LEN_MAX }>>>() {
        let names = names.try_readonly().map_err(|_| PyValueError::new_err("symbols is being written"))?;
        return Ok(names.as_slice()?.iter().map(|name| Symbol::from_padded(&name.0)).collect());
    }
    let symbols = symbols.cast::<PyList>().map_err(|_| {
        let what = symbols.get_type();
        PyTypeError::new_err(format!(
            "symbols must be a list of str or a NumPy array of S{}, not {what}",
            Symbol::LEN_MAX
        ))
    })?;
    let one = |(i, symbol): (usize, Bound<'_, PyAny>)| match symbol.cast::<PyString>() {
        // A string with lone surrogates has no UTF-8 and is no symbol either.
        Ok(name) => Ok(name.to_str().unwrap_or("").parse()),
        Err(_) => Err(PyTypeError::new_err(format!("symbols[{i}] must be a str"))),
    };
    symbols.iter().enumerate().map(one).collect()
}

/// An input array, checked: dtype, shape, C-contiguous.
fn column<'py, T: Element, const D: usize>(
    name: &str,
    any: &Bound<'py, PyAny>,
    shape: [usize; D],
) -> PyResult<PyReadonlyArray<'py, T, Dim<[usize; D]>>>
where
    Dim<[usize; D]>: Dimension,
{
    let array = checked::<T>(name, any)?;
    if array.shape() != shape {
        return Err(PyValueError::new_err(format!("{name} must have shape {shape:?}, not {:?}", array.shape())));
    }
    any.cast::<numpy::PyArray<T, _>>()?
        .try_readonly()
        .map_err(|_| PyValueError::new_err(format!("{name} must not be an array that is being written")))
}

/// The caller's window buffer: none or one window per candle, as float32 or float16.
enum Buffer<'py> {
    F32(PyReadwriteArray<'py, f32, Dim<[usize; 3]>>),
    F16(PyReadwriteArray<'py, f16, Dim<[usize; 3]>>),
}

impl<'py> Buffer<'py> {
    fn of(name: &str, n: usize, any: &Bound<'py, PyAny>) -> PyResult<Self> {
        let fits = |[m, rows, width]: [usize; 3]| (m == 0 || m >= n) && (rows, width) == (WINDOW, WIDTH);
        let is_narrow = any.cast::<PyUntypedArray>().is_ok_and(|a| a.dtype().is_equiv_to(&f16::get_dtype(any.py())));
        Ok(if is_narrow { Self::F16(writable(name, any, fits)?) } else { Self::F32(writable(name, any, fits)?) })
    }

    fn windows(&mut self) -> PyResult<Windows<'_>> {
        Ok(match self {
            Self::F32(array) => Windows::F32(array.as_slice_mut()?),
            Self::F16(array) => Windows::F16(array.as_slice_mut()?),
        })
    }
}

/// An output array, checked: dtype, shape, C-contiguous, writable.
fn writable<'py, T: Element, const D: usize>(
    name: &str,
    any: &Bound<'py, PyAny>,
    fits: impl Fn([usize; D]) -> bool,
) -> PyResult<PyReadwriteArray<'py, T, Dim<[usize; D]>>>
where
    Dim<[usize; D]>: Dimension,
{
    let array = checked::<T>(name, any)?;
    if !<[usize; D]>::try_from(array.shape()).is_ok_and(fits) {
        let expected = if D == 2 {
            format!("[one per candle, {WIDTH}]")
        } else {
            format!("[0, {WINDOW}, {WIDTH}] or [at least one per candle, {WINDOW}, {WIDTH}]")
        };
        return Err(PyValueError::new_err(format!("{name} must have shape {expected}, not {:?}", array.shape())));
    }
    any.cast::<numpy::PyArray<T, Dim<[usize; D]>>>()?
        .try_readwrite()
        .map_err(|_| PyValueError::new_err(format!("{name} must be writable and not used as an input")))
}

fn checked<'a, 'py, T: Element>(name: &str, any: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    let dtype = T::get_dtype(any.py());
    let wrong = |what: String| PyTypeError::new_err(format!("{name} must be a NumPy array of {dtype}, not {what}"));
    let Ok(array) = any.cast::<PyUntypedArray>() else {
        return Err(wrong(any.get_type().name()?.to_string()));
    };
    if !array.dtype().is_equiv_to(&dtype) {
        return Err(wrong(array.dtype().to_string()));
    }
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err(format!("{name} must be C-contiguous")));
    }
    Ok(array)
}
