//! A gRPC door of a server that has one busy thread: it speaks HTTP/2 on a thread of its own.
//!
//! The messages of a few methods, unary or streams of one answer a message, wait in an inbox until the busy thread
//! takes all of them at once; a byte on [`Door::bell`] says that some are there. All other calls go on, as they are, to
//! another server behind a Unix socket. Knows no message and no method's meaning.

mod body;
mod calls;
mod upstream;
mod wire;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    os::unix::net::UnixStream,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    body::Body,
    calls::{Calls, Reply},
    upstream::Upstream,
    wire::{Code, Messages},
};
pub use crate::{calls::Arrival, wire::Status};

/// Calls of one connection at a time; a client waits with more.
const CALLS_PER_CONNECTION_MAX: u32 = 10_000;
/// Calls that were left at once, above which a connection is taken for an attack.
const LEFT_AT_ONCE_MAX: usize = 10_000;
/// Bytes that may be under way to us in one call, and in one connection.
const CALL_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 24;
/// Bytes of one call's answers that wait for a slow client.
const ANSWER_BYTES_MAX: usize = 1 << 16;
/// After an accept that failed, as without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A method whose messages are handed over.
#[derive(Clone, Debug)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: String,
    /// Whether it takes a stream of messages and gives one answer to each, in order.
    pub streams: bool,
}

/// What a door is and what it may hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Abstract Unix socket of the server that gets all other calls: a name, no file.
    pub upstream: String,
    /// Those whose messages are handed over.
    pub methods: Vec<Method>,
    /// Largest message.
    pub message_bytes_max: usize,
    /// Messages in the inbox; the next ones are answered with `full`.
    pub inbox_max: usize,
    /// What is said then.
    pub full: Status,
    /// Messages of one stream that wait for their answers, and their bytes; a faster client is slowed down.
    pub stream_messages_max: usize,
    /// See `stream_messages_max`.
    pub stream_bytes_max: u32,
    /// How often a silent client is asked whether it lives.
    pub keep_alive: Duration,
    /// How long it has for that.
    pub keep_alive_timeout: Duration,
}

/// How far a door has gone.
#[derive(Clone, Debug)]
enum Phase {
    Open,
    /// Streams are read no more and end with this, once what was read is answered.
    Stopping(Status),
    /// No connection is taken, and each ends when its calls have.
    Closing(Status, Instant),
}

/// What all connections share.
struct Shared {
    settings: Settings,
    calls: Arc<Calls>,
    phase: watch::Receiver<Phase>,
}

/// The door; it closes when it is dropped.
pub struct Door {
    calls: Arc<Calls>,
    answers: mpsc::UnboundedSender<Vec<(u64, Bytes)>>,
    address: SocketAddr,
    bell: UnixStream,
    phase: watch::Sender<Phase>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Door {
    /// Listens on `HOST:PORT`.
    ///
    /// # Errors
    /// The address cannot be had, or the machine gives no thread or socket.
    pub fn open(address: &str, settings: Settings) -> io::Result<Self> {
        let (ours, bell) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let calls = Arc::new(Calls::new(ours, settings.inbox_max, settings.full.clone()));
        let (phase, watched) = watch::channel(Phase::Open);
        let shared = Arc::new(Shared {
            settings,
            calls: Arc::clone(&calls),
            phase: watched,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (answers, answered) = mpsc::unbounded_channel(); // no more than there are calls
        let thread = thread::Builder::new()
            .name("door".to_owned())
            .spawn(move || {
                runtime.spawn(handed_over(answered, Arc::clone(&shared.calls)));
                runtime.block_on(serve(listener, shared));
                runtime.shutdown_background(); // what has not ended by now is cut off
            })?;
        Ok(Self {
            calls,
            answers,
            address,
            bell,
            phase,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Becomes readable when something has arrived; whoever takes it reads what is in here first.
    #[must_use]
    pub fn bell(&self) -> &UnixStream {
        &self.bell
    }

    /// Takes all that has arrived, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Arrival> {
        self.calls.take(&self.bell)
    }

    /// Answers calls, and wakes the door once for all of them; those that were left take no harm.
    pub fn answer(&self, answers: Vec<(u64, Bytes)>) {
        // A door that has ended has ended all calls.
        let _ = self.answers.send(answers);
    }

    /// Ends a call, of a stream all of it: what came behind is not handed over any more.
    pub fn fail(&self, call: u64, status: Status) {
        self.calls.reply(call, Reply::Failure(status));
    }

    /// How many calls of the methods that are handed over it ended itself, by status code: no message of those came.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<u32, u64> {
        self.calls.refused()
    }

    /// Reads no more from any stream: what was read is answered, then it ends with `status`.
    pub fn stop(&self, status: Status) {
        self.phase.send_replace(Phase::Stopping(status));
    }

    /// Takes no more connections, and ends when the calls there are have ended, at the latest after `grace`.
    pub fn close(&self, grace: Duration, status: Status) {
        self.phase
            .send_replace(Phase::Closing(status, Instant::now() + grace));
    }

    /// Waits until it has ended; blocks.
    pub fn wait(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic of the thread has ended all calls already: there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close(Duration::ZERO, Status::default());
    }
}

/// Binds as grpc does: the first address of a name that can be had.
fn listen(address: &str) -> io::Result<std::net::TcpListener> {
    let mut found = Err(io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the name has no address",
    ));
    for one in address.to_socket_addrs()? {
        found = std::net::TcpListener::bind(one);
        if found.is_ok() {
            break;
        }
    }
    let listener = found?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn handed_over(mut answered: mpsc::UnboundedReceiver<Vec<(u64, Bytes)>>, calls: Arc<Calls>) {
    while let Some(answers) = answered.recv().await {
        for (call, message) in answers {
            calls.reply(call, Reply::Message(message));
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut phase = shared.phase.clone();
    let mut connections = JoinSet::new();
    let until = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connected(stream, Arc::clone(&shared)))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            until = closing(&mut phase) => break until,
        }
    };
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that are late are cut off with the runtime.
    let _ = tokio::time::timeout_at(until.into(), all).await;
}

/// Returns, once the door closes, when it has to be closed.
async fn closing(phase: &mut watch::Receiver<Phase>) -> Instant {
    match phase
        .wait_for(|phase| matches!(phase, Phase::Closing(..)))
        .await
        .as_deref()
    {
        Ok(Phase::Closing(_, until)) => *until,
        _ => Instant::now(), // the door was forgotten
    }
}

/// Returns, once streams are to end, with what.
async fn stopping(phase: &mut watch::Receiver<Phase>) -> Status {
    match phase
        .wait_for(|phase| !matches!(phase, Phase::Open))
        .await
        .as_deref()
    {
        Ok(Phase::Stopping(status) | Phase::Closing(status, _)) => status.clone(),
        _ => Status::default(),
    }
}

async fn connected(stream: TcpStream, shared: Arc<Shared>) {
    // Without it answers are as good as late; a connection that refuses is about to end.
    let _ = stream.set_nodelay(true);
    let mut phase = shared.phase.clone();
    let upstream = Arc::new(Upstream::new(shared.settings.upstream.clone()));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.settings.keep_alive)
        .keep_alive_timeout(shared.settings.keep_alive_timeout)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(LEFT_AT_ONCE_MAX)
        .max_local_error_reset_streams(LEFT_AT_ONCE_MAX)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(ANSWER_BYTES_MAX);
    let handler =
        service_fn(move |request| answered(Arc::clone(&shared), Arc::clone(&upstream), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handler));
    tokio::select! {
        _ = connection.as_mut() => return, // how a connection ended says nothing about the server
        _ = closing(&mut phase) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answered(
    shared: Arc<Shared>,
    upstream: Arc<Upstream>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let Some(method) = shared
        .settings
        .methods
        .iter()
        .position(|method| method.path == path)
    else {
        return Ok(upstream.answered(request).await);
    };
    if let Some(refused) = wire::refusal(&request) {
        shared.calls.refuse(Code::Unimplemented as u32);
        return Ok(refused);
    }
    let deadline = wire::timeout(request.headers()).map(|timeout| Instant::now() + timeout);
    let messages = Messages::of(request, shared.settings.message_bytes_max);
    Ok(if shared.settings.methods[method].streams {
        body::streamed(&shared, method, messages)
    } else {
        unary(&shared.calls, method, messages, deadline).await
    })
}

async fn unary(
    calls: &Arc<Calls>,
    method: usize,
    mut messages: Messages,
    deadline: Option<Instant>,
) -> Response<Body> {
    let reply = match messages.only().await {
        Ok(message) => calls.arrive(method, message, deadline, None).await,
        Err(status) => {
            calls.refuse(status.code);
            Reply::Failure(status)
        }
    };
    match reply {
        Reply::Message(message) => wire::whole(&message),
        Reply::Failure(status) => wire::failed(&status),
    }
}
