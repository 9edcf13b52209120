//! The gRPC door, for Python. Documented in `_rust.pyi`.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, RawFd},
    time::{Duration, Instant},
};

use candlecast_door::{self as door, Arrival, Method, Settings, Status};
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyList},
};

/// Code, words, `google.rpc.Status`.
type Failure = (u32, String, Vec<u8>);

fn status((code, message, details): Failure) -> Status {
    Status { code, message, details }
}

#[pyclass(frozen)]
pub(super) struct Door {
    door: door::Door,
    #[pyo3(get)]
    fd: RawFd,
    #[pyo3(get)]
    port: u16,
}

#[pymethods]
impl Door {
    #[new]
    #[pyo3(signature = (
        address, upstream, methods, *, message_bytes_max, inbox_max, full, stream_messages_max, stream_bytes_max,
        keep_alive_ms, keep_alive_timeout_ms
    ))]
    #[expect(clippy::too_many_arguments, reason = "named in Python")]
    fn new(
        address: &str,
        upstream: String,
        methods: Vec<(String, bool)>,
        message_bytes_max: usize,
        inbox_max: usize,
        full: Failure,
        stream_messages_max: usize,
        stream_bytes_max: u32,
        keep_alive_ms: u64,
        keep_alive_timeout_ms: u64,
    ) -> PyResult<Self> {
        let door = door::Door::open(
            address,
            Settings {
                upstream,
                methods: methods.into_iter().map(|(path, streams)| Method { path, streams }).collect(),
                message_bytes_max,
                inbox_max,
                full: status(full),
                stream_messages_max,
                stream_bytes_max,
                keep_alive: Duration::from_millis(keep_alive_ms),
                keep_alive_timeout: Duration::from_millis(keep_alive_timeout_ms),
            },
        )?;
        let (fd, port) = (door.bell().as_raw_fd(), door.address().port());
        Ok(Self { door, fd, port })
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let (arrived, now) = (self.door.take(), Instant::now());
        let arrived = arrived.into_iter().map(|arrival| match arrival {
            Arrival::Message { call, stream, method, message, deadline } => {
                let left_s = deadline.map(|deadline| deadline.saturating_duration_since(now).as_secs_f64());
                (call, method, Some(PyBytes::new(py, &message)), left_s, stream)
            }
            Arrival::Left { call } => (call, 0, None, None, None),
        });
        PyList::new(py, arrived.collect::<Vec<_>>())
    }

    fn answer(&self, answers: Vec<(u64, PyBackedBytes)>) {
        let copied = answers.into_iter().map(|(call, message)| (call, message.to_vec().into()));
        self.door.answer(copied.collect());
    }

    fn fail(&self, call: u64, code: u32, message: String, details: Vec<u8>) {
        self.door.fail(call, Status { code, message, details });
    }

    fn refused(&self) -> BTreeMap<u32, u64> {
        self.door.refused()
    }

    fn stop(&self, code: u32, message: String, details: Vec<u8>) {
        self.door.stop(Status { code, message, details });
    }

    fn close(&self, grace_ms: u64, code: u32, message: String, details: Vec<u8>) {
        self.door.close(Duration::from_millis(grace_ms), Status { code, message, details });
    }

    fn wait(&self, py: Python<'_>) {
        py.detach(|| self.door.wait());
    }
}
