//! Columns into records of fixed width, for Python. Documented in `_rust.pyi`.

use numpy::{
    PyArray1, PyArray2, PyArrayDescrMethods, PyArrayMethods, PyFixedString, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArray, PyUntypedArrayMethods, npyffi::NPY_TYPES,
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
    types::PyBytes,
};

use crate::symbol::Symbol;

type Text = PyFixedString<{ Symbol::LEN_MAX }>;
/// Offset in the record, NumPy's name of the type, column.
type Field<'py> = (usize, PyBackedStr, Bound<'py, PyAny>);
/// Which records these columns are of, all unless it says which.
type Part<'py> = (Option<PyReadonlyArray1<'py, i64>>, Vec<Field<'py>>);

#[pyfunction]
pub(super) fn interleave<'py>(
    py: Python<'py>,
    empty: &[u8],
    count: usize,
    parts: Vec<Part<'py>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = empty.len().checked_mul(count).ok_or_else(|| PyValueError::new_err("too many records"))?;
    PyBytes::new_with(py, bytes, |records| {
        if empty.is_empty() {
            return Ok(());
        }
        for record in records.chunks_exact_mut(empty.len()) {
            record.copy_from_slice(empty);
        }
        for (at, fields) in &parts {
            let rows = match at {
                Some(at) => Some(places(at, count)?),
                None => None,
            };
            for (offset, type_, column) in fields {
                let sink = Sink { records, width: empty.len(), offset: *offset, rows: rows.as_deref(), count };
                fill(sink, type_, column)?;
            }
        }
        Ok(())
    })
}

fn places(at: &PyReadonlyArray1<'_, i64>, count: usize) -> PyResult<Vec<usize>> {
    let place = |&row: &i64| {
        let place = usize::try_from(row).ok().filter(|&place| place < count);
        place.ok_or_else(|| PyValueError::new_err(format!("there is no record {row}")))
    };
    at.as_array().iter().map(place).collect()
}

/// Where a column goes.
struct Sink<'a> {
    records: &'a mut [u8],
    width: usize,
    offset: usize,
    rows: Option<&'a [usize]>,
    count: usize,
}

impl Sink<'_> {
    fn len(&self) -> usize {
        self.rows.map_or(self.count, <[usize]>::len)
    }

    fn put<const N: usize>(&mut self, values: impl ExactSizeIterator<Item = [u8; N]>, item: usize) -> PyResult<()> {
        if values.len() != self.len() {
            return Err(PyValueError::new_err(format!("a column has {} rows, not {}", values.len(), self.len())));
        }
        let from = self.offset + item * N;
        if from + N > self.width {
            return Err(PyValueError::new_err(format!("a record has {} bytes, none at {}", self.width, from + N - 1)));
        }
        for (k, value) in values.enumerate() {
            let start = self.rows.map_or(k, |rows| rows[k]) * self.width + from;
            self.records[start..start + N].copy_from_slice(&value);
        }
        Ok(())
    }

    /// Write numbers as NumPy's type of that name.
    fn numbers<T: Number>(
        &mut self,
        type_: &str,
        values: impl ExactSizeIterator<Item = T>,
        item: usize,
    ) -> PyResult<()> {
        match type_ {
            "<f8" => self.put(values.map(|x| x.float().to_le_bytes()), item),
            ">f8" => self.put(values.map(|x| x.float().to_be_bytes()), item),
            "<f4" => self.put(values.map(|x| (x.float() as f32).to_le_bytes()), item),
            ">f4" => self.put(values.map(|x| (x.float() as f32).to_be_bytes()), item),
            "<i8" | "<u8" => self.put(values.map(|x| x.integer().to_le_bytes()), item),
            ">i8" => self.put(values.map(|x| x.integer().to_be_bytes()), item),
            "<i4" | "<u4" => self.put(values.map(|x| (x.integer() as i32).to_le_bytes()), item),
            ">i4" => self.put(values.map(|x| (x.integer() as i32).to_be_bytes()), item),
            ">i2" => self.put(values.map(|x| (x.integer() as i16).to_be_bytes()), item),
            "|u1" | "|i1" => self.put(values.map(|x| [x.integer() as u8]), item),
            "|b1" => self.put(values.map(|x| [u8::from(x.integer() != 0)]), item),
            other => Err(PyTypeError::new_err(format!("numbers are not written as {other}"))),
        }
    }

    fn all_alike<T: Number>(&mut self, type_: &str, value: T) -> PyResult<()> {
        let len = self.len();
        self.numbers(type_, (0..len).map(|_| value), 0)
    }
}

/// What NumPy has numbers of.
trait Number: Copy {
    fn float(self) -> f64;
    /// The 64 bits; of an unsigned one the same.
    fn integer(self) -> i64;
}

macro_rules! number {
    ($($type_:ty),*) => {
        $(impl Number for $type_ {
            fn float(self) -> f64 {
                self as f64
            }
            fn integer(self) -> i64 {
                self as i64
            }
        })*
    };
}
number!(f64, f32, i64, i32, i8, u64, u32, u8);

impl Number for bool {
    fn float(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn integer(self) -> i64 {
        i64::from(self)
    }
}

fn fill(mut sink: Sink<'_>, type_: &str, column: &Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(array) = column.cast::<PyUntypedArray>() else {
        return match column.extract::<i64>() {
            Ok(value) => sink.all_alike(type_, value),
            Err(_) => sink.all_alike(type_, column.extract::<f64>()?),
        };
    };
    // By its number: a cast that fails costs more than all the rest.
    macro_rules! one_of {
        ($($number:ident => $type_:ty),*) => {
            match (array.dtype().num() as u32, array.ndim()) {
                $((number, 1) if number == NPY_TYPES::$number as u32 => {
                    let column = column.cast::<PyArray1<$type_>>()?;
                    return sink.numbers(type_, readable(column.try_readonly())?.as_array().iter().copied(), 0);
                })*
                (number, 2) if number == NPY_TYPES::NPY_DOUBLE as u32 => {
                    return wide(sink, type_, &readable(column.cast::<PyArray2<f64>>()?.try_readonly())?);
                }
                (number, 2) if number == NPY_TYPES::NPY_FLOAT as u32 => {
                    return wide(sink, type_, &readable(column.cast::<PyArray2<f32>>()?.try_readonly())?);
                }
                (number, 1) if number == NPY_TYPES::NPY_STRING as u32 => {
                    return text(sink, type_, &readable(column.cast::<PyArray1<Text>>()?.try_readonly())?);
                }
                _ => {}
            }
        };
    }
    one_of!(
        NPY_DOUBLE => f64, NPY_FLOAT => f32, NPY_BOOL => bool, NPY_LONG => i64, NPY_ULONG => u64, NPY_INT => i32,
        NPY_UINT => u32, NPY_BYTE => i8, NPY_UBYTE => u8
    );
    Err(PyTypeError::new_err(format!("a column of {} with {} dimensions is not written", array.dtype(), array.ndim())))
}

fn readable<T, E>(array: Result<T, E>) -> PyResult<T> {
    array.map_err(|_| PyValueError::new_err("a column must not be an array that is being written"))
}

/// Several numbers a record, one behind the other.
fn wide<T: Number + numpy::Element>(
    mut sink: Sink<'_>,
    type_: &str,
    columns: &PyReadonlyArray2<'_, T>,
) -> PyResult<()> {
    for (item, column) in columns.as_array().columns().into_iter().enumerate() {
        sink.numbers(type_, column.iter().copied(), item)?;
    }
    Ok(())
}

/// Bytes with zeros behind them, as `|S32`; with blanks there instead, as `|blank`.
fn text(mut sink: Sink<'_>, type_: &str, column: &PyReadonlyArray1<'_, Text>) -> PyResult<()> {
    let column = column.as_array();
    match type_ {
        "|S32" => sink.put(column.iter().map(|text| text.0), 0),
        "|blank" => sink.put(column.iter().map(|text| blank_behind(text.0)), 0),
        other => Err(PyTypeError::new_err(format!("text is not written as {other}"))),
    }
}

fn blank_behind<const N: usize>(mut text: [u8; N]) -> [u8; N] {
    text.iter_mut().rev().take_while(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    text
}
