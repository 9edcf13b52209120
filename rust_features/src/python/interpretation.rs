//! What outputs mean, for Python. Documented in `_rust.pyi`.

use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::interpretation::{self, CLASSES, HORIZONS, OUTPUTS};

#[pyclass(frozen, get_all, module = "candlecast._rust")]
pub(super) struct Meaning {
    side: Py<PyArray1<i8>>,
    finite: Py<PyArray1<bool>>,
    confidence: Py<PyArray1<f64>>,
    agreement: Py<PyArray1<f64>>,
    r#move: Py<PyArray1<f64>>,
    edge: Py<PyArray1<f64>>,
    quality: Py<PyArray1<f64>>,
    returns: Py<PyArray2<f64>>,
    probabilities: Py<PyArray3<f64>>,
    risks: Py<PyArray2<f64>>,
    stop_loss: Py<PyArray1<f64>>,
    take_profit: Py<PyArray1<f64>>,
}

#[pyfunction]
pub(super) fn interpret(
    py: Python<'_>,
    outputs: PyReadonlyArray2<'_, f32>,
    temperatures: PyReadonlyArrayDyn<'_, f64>,
) -> PyResult<Meaning> {
    let (outputs, temperatures) = (outputs.as_array(), temperatures.as_array());
    let n = outputs.nrows();
    if outputs.ncols() != OUTPUTS {
        return Err(PyValueError::new_err(format!("outputs must have {OUTPUTS} columns, not {}", outputs.ncols())));
    }
    let each = temperatures.shape() == [n, HORIZONS];
    if !each && temperatures.shape() != [HORIZONS] {
        let shape = temperatures.shape();
        return Err(PyValueError::new_err(format!(
            "temperatures must be [{HORIZONS}] or [{n}, {HORIZONS}], not {shape:?}"
        )));
    }
    let temperature = |i, h| if each { temperatures[[i, h]] } else { temperatures[[h]] };
    let rows: Vec<_> = (0..n)
        .map(|i| {
            let raw = std::array::from_fn(|k| outputs[[i, k]]);
            interpretation::interpret(raw, std::array::from_fn(|h| temperature(i, h)))
        })
        .collect();
    let column = |of: fn(&interpretation::Meaning) -> f64| PyArray1::from_iter(py, rows.iter().map(of)).unbind();
    let four = |of: fn(&interpretation::Meaning) -> [f64; 4]| {
        PyArray1::from_vec(py, rows.iter().flat_map(of).collect()).reshape([n, 4]).map(Bound::unbind)
    };
    let probabilities: Vec<f64> = rows.iter().flat_map(|row| row.probabilities.into_iter().flatten()).collect();
    Ok(Meaning {
        side: PyArray1::from_iter(py, rows.iter().map(|row| row.side)).unbind(),
        finite: PyArray1::from_iter(py, rows.iter().map(|row| row.finite)).unbind(),
        confidence: column(|row| row.confidence),
        agreement: column(|row| row.agreement),
        r#move: column(|row| row.moves),
        edge: column(|row| row.edge),
        quality: column(|row| row.quality),
        returns: four(|row| row.returns)?,
        probabilities: PyArray1::from_vec(py, probabilities).reshape([n, HORIZONS, CLASSES])?.unbind(),
        risks: four(|row| row.risks)?,
        stop_loss: column(|row| row.stop_loss),
        take_profit: column(|row| row.take_profit),
    })
}
