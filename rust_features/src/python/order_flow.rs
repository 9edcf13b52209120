//! Order flow for Python. Documented in `_rust.pyi`.

use std::sync::Mutex;

use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::{
    exceptions::{PyOverflowError, PyRuntimeError, PyValueError},
    prelude::*,
    types::PyTuple,
};

use super::{column, known, parse};
use crate::order_flow::{
    Flow, Quote,
    book::{Event, Level, Offers, Side},
    flows::{self, Batch, Depth, OrderFlows},
    prices::Trade,
};

#[pyclass(frozen, get_all, module = "candlecast._rust")]
pub(super) struct FlowPushed {
    rows: Py<PyArray2<f64>>,
    undefined: Py<PyArray2<u8>>,
    trades: Py<PyArray1<u8>>,
    quotes: Py<PyArray1<u8>>,
    depth: Py<PyArray1<u8>>,
}

#[pyclass(frozen, get_all, module = "candlecast._rust")]
pub(super) struct FlowStatus {
    newest_ts: Option<i64>,
    trades: u64,
    late: u64,
    duplicates: u64,
    refused: u64,
    gaps: u64,
    book_is_valid: bool,
}

#[pyclass(frozen, module = "candlecast._rust")]
pub(super) struct OrderFlow {
    flows: Mutex<OrderFlows>,
}

#[pymethods]
impl OrderFlow {
    #[new]
    #[pyo3(signature = (*, symbols_max = 4_096, stale_ms = 5_000))]
    fn new(symbols_max: usize, stale_ms: i64) -> PyResult<Self> {
        if symbols_max == 0 || stale_ms < 1 {
            return Err(PyValueError::new_err("symbols_max and stale_ms must be at least 1"));
        }
        Ok(Self { flows: Mutex::new(OrderFlows::new(symbols_max, stale_ms)) })
    }

    #[pyo3(signature = (symbol, *, trades = None, quotes = None, depth = None))]
    fn push(
        &self,
        py: Python<'_>,
        symbol: &str,
        trades: Option<&Bound<'_, PyTuple>>,
        quotes: Option<&Bound<'_, PyTuple>>,
        depth: Option<&Bound<'_, PyTuple>>,
    ) -> PyResult<FlowPushed> {
        let symbol = known(symbol)?;
        let trades = trades.map_or(Ok(Vec::new()), read_trades)?;
        let quotes = quotes.map_or(Ok(Vec::new()), read_quotes)?;
        let (levels, events) = depth.map_or(Ok(Default::default()), read_depth)?;
        let answer = py.detach(|| {
            let depth: Vec<_> = events
                .iter()
                .map(|(ts, event, is_snapshot, from, to)| Depth {
                    ts: *ts,
                    event: *event,
                    is_snapshot: *is_snapshot,
                    levels: &levels[*from..*to],
                })
                .collect();
            let batch = Batch { trades: &trades, quotes: &quotes, depth: &depth };
            let pushed = self.flows()?.push(symbol, batch);
            pushed.map_err(|flows::Full| {
                PyOverflowError::new_err(format!("no room for {symbol}: symbols_max is reached"))
            })
        })?;
        let codes = |codes: Vec<u8>| PyArray1::from_vec(py, codes).unbind();
        let (rows, undefined) = columns(py, answer.flows.iter().map(Some))?;
        Ok(FlowPushed {
            rows,
            undefined,
            trades: codes(answer.trades.iter().map(|taken| *taken as u8).collect()),
            quotes: codes(answer.quotes.iter().map(|taken| *taken as u8).collect()),
            depth: codes(answer.depth.iter().map(|applied| *applied as u8).collect()),
        })
    }

    fn at(&self, py: Python<'_>, symbols: &Bound<'_, PyAny>, ts: i64) -> PyResult<Rows> {
        let symbols = parse(symbols)?;
        let known = py.detach(|| {
            let flows = self.flows()?;
            let at = |symbol: &Result<_, _>| symbol.as_ref().ok().and_then(|symbol| flows.at(symbol, ts));
            Ok::<_, PyErr>(symbols.iter().map(at).collect::<Vec<_>>())
        })?;
        columns(py, known.iter().map(Option::as_ref))
    }

    fn status(&self, symbol: &str) -> PyResult<Option<FlowStatus>> {
        let status = self.flows()?.status(&known(symbol)?);
        Ok(status.map(|flows::Status { newest_ts, trades, late, duplicates, refused, gaps, book_is_valid }| {
            FlowStatus { newest_ts, trades, late, duplicates, refused, gaps, book_is_valid }
        }))
    }

    fn book(&self, symbol: &str, levels: usize) -> PyResult<Option<(Offers, Offers)>> {
        Ok(self.flows()?.top(&known(symbol)?, levels))
    }
}

impl OrderFlow {
    fn flows(&self) -> PyResult<std::sync::MutexGuard<'_, OrderFlows>> {
        self.flows.lock().map_err(|_| PyRuntimeError::new_err("an earlier call failed half way: this state is lost"))
    }
}

/// Rows [N, 8] and why they have NaN [N, 2].
type Rows = (Py<PyArray2<f64>>, Py<PyArray2<u8>>);

/// A symbol nobody knows has neither trades nor a book.
fn columns<'a>(py: Python<'_>, flows: impl ExactSizeIterator<Item = Option<&'a Flow>>) -> PyResult<Rows> {
    use crate::order_flow::Undefined::{NoBook, NoTrades};
    let n = flows.len();
    let (mut rows, mut undefined) = (Vec::with_capacity(n * Flow::COLUMNS), Vec::with_capacity(n * 2));
    for flow in flows {
        rows.extend(flow.map_or([f64::NAN; Flow::COLUMNS], Flow::columns));
        undefined.extend(flow.map_or([NoTrades as u8, NoBook as u8], |f| [f.no_dist as u8, f.no_depth as u8]));
    }
    let rows = PyArray1::from_vec(py, rows).reshape([n, Flow::COLUMNS])?.unbind();
    Ok((rows, PyArray1::from_vec(py, undefined).reshape([n, 2])?.unbind()))
}

fn read_trades(columns: &Bound<'_, PyTuple>) -> PyResult<Vec<Trade>> {
    let columns = Columns::of("trades", columns, 4)?;
    let (ts, id) = (columns.get::<i64>(0, "ts")?, columns.get::<i64>(1, "id")?);
    let (price, qty) = (columns.get::<f64>(2, "price")?, columns.get::<f64>(3, "qty")?);
    let (ts, id, price, qty) = (ts.as_slice()?, id.as_slice()?, price.as_slice()?, qty.as_slice()?);
    Ok((0..columns.len).map(|i| Trade { ts: ts[i], id: id[i], price: price[i], qty: qty[i] }).collect())
}

fn read_quotes(columns: &Bound<'_, PyTuple>) -> PyResult<Vec<Quote>> {
    let columns = Columns::of("quotes", columns, 5)?;
    let ts = columns.get::<i64>(0, "ts")?;
    let sides = ["bid", "bid_size", "ask", "ask_size"];
    let [bid, bid_size, ask, ask_size] = std::array::from_fn(|i| columns.get::<f64>(i + 1, sides[i]));
    let (bid, bid_size, ask, ask_size) = (bid?, bid_size?, ask?, ask_size?);
    let (ts, bid, bid_size) = (ts.as_slice()?, bid.as_slice()?, bid_size.as_slice()?);
    let (ask, ask_size) = (ask.as_slice()?, ask_size.as_slice()?);
    let quote = |i: usize| Quote { ts: ts[i], bid: bid[i], bid_size: bid_size[i], ask: ask[i], ask_size: ask_size[i] };
    Ok((0..columns.len).map(quote).collect())
}

/// Time, numbers, whether it is a snapshot, and its levels from and to.
type DepthEvent = (i64, Event, bool, usize, usize);

fn read_depth(columns: &Bound<'_, PyTuple>) -> PyResult<(Vec<Level>, Vec<DepthEvent>)> {
    let columns = Columns::of("depth", columns, 8)?;
    let [ts, first, last, previous] =
        std::array::from_fn(|i| columns.get::<i64>(i, ["ts", "first", "last", "previous"][i]));
    let (ts, first, last, previous) = (ts?, first?, last?, previous?);
    let (side, price) = (columns.get::<i8>(4, "side")?, columns.get::<f64>(5, "price")?);
    let (qty, is_snapshot) = (columns.get::<f64>(6, "qty")?, columns.get::<bool>(7, "is_snapshot")?);
    let (ts, first, last, previous) = (ts.as_slice()?, first.as_slice()?, last.as_slice()?, previous.as_slice()?);
    let (side, price, qty, is_snapshot) =
        (side.as_slice()?, price.as_slice()?, qty.as_slice()?, is_snapshot.as_slice()?);
    let (mut levels, mut events) = (Vec::with_capacity(columns.len), Vec::<DepthEvent>::new());
    for i in 0..columns.len {
        if !(price[i] > 0.0 && price[i].is_finite() && qty[i] >= 0.0 && qty[i].is_finite()) {
            return Err(PyValueError::new_err(format!("depth[{i}] has price {} and qty {}", price[i], qty[i])));
        }
        let side = if side[i] > 0 { Side::Bid } else { Side::Ask };
        levels.push(Level { side, price: price[i], qty: qty[i] });
        let event = Event { first: first[i], last: last[i], previous: previous[i] };
        match events.last_mut() {
            Some((_, before, was_snapshot, _, to)) if *before == event && *was_snapshot == is_snapshot[i] => {
                *to = i + 1
            }
            _ => events.push((ts[i], event, is_snapshot[i], i, i + 1)),
        }
    }
    Ok((levels, events))
}

/// Columns of one length, in a tuple.
struct Columns<'a, 'py> {
    what: &'static str,
    tuple: &'a Bound<'py, PyTuple>,
    len: usize,
}

impl<'a, 'py> Columns<'a, 'py> {
    fn of(what: &'static str, tuple: &'a Bound<'py, PyTuple>, count: usize) -> PyResult<Self> {
        if tuple.len() != count {
            return Err(PyValueError::new_err(format!("{what} must be {count} columns, not {}", tuple.len())));
        }
        let first = tuple.get_item(0)?;
        let len = first.cast::<PyUntypedArray>().map_or(0, |array| if array.ndim() == 1 { array.len() } else { 0 });
        Ok(Self { what, tuple, len })
    }

    fn get<T: Element>(&self, at: usize, name: &str) -> PyResult<PyReadonlyArray<'py, T, numpy::Ix1>> {
        column::<T, 1>(&format!("{}.{name}", self.what), &self.tuple.get_item(at)?, [self.len])
    }
}
