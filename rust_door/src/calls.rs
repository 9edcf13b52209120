//! The inbox, and who waits for an answer.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write as _},
    mem,
    os::unix::net::UnixStream,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::wire::Status;

/// What came in.
#[derive(Debug)]
pub enum Arrival {
    /// A message that wants an answer.
    Message {
        /// Number of the call; of a stream each message is one.
        call: u64,
        /// Number of the stream that it is of.
        stream: Option<u64>,
        /// Place among the methods.
        method: usize,
        /// The message, encoded.
        message: Bytes,
        /// Until when its caller waits, if it said so.
        deadline: Option<Instant>,
    },
    /// Its caller waits no more for this call.
    Left {
        /// Its number.
        call: u64,
    },
}

/// What a call is answered with.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The answer, encoded.
    Message(Bytes),
    /// The call fails; of a stream, all of it: what came behind is not handed over any more.
    Failure(Status),
}

/// What the messages of one stream share.
pub(crate) struct Stream {
    number: u64,
    has_failed: AtomicBool,
}

struct Waiting {
    sender: oneshot::Sender<Reply>,
    stream: Option<Arc<Stream>>,
}

struct Arrived {
    arrival: Arrival,
    stream: Option<Arc<Stream>>,
}

pub(crate) struct Calls {
    inbox: Mutex<Vec<Arrived>>,
    inbox_max: usize,
    full: Status,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    bell: UnixStream,
    refused: Mutex<BTreeMap<u32, u64>>,
}

impl Calls {
    pub(crate) fn new(bell: UnixStream, inbox_max: usize, full: Status) -> Self {
        Self {
            inbox: Mutex::default(),
            inbox_max,
            full,
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            bell,
            refused: Mutex::default(),
        }
    }

    /// Counts a call that is not handed over, or not any further.
    pub(crate) fn refuse(&self, code: u32) {
        *lock(&self.refused).entry(code).or_default() += 1;
    }

    pub(crate) fn refused(&self) -> BTreeMap<u32, u64> {
        lock(&self.refused).clone()
    }

    pub(crate) fn stream(&self) -> Arc<Stream> {
        Arc::new(Stream {
            number: self.number(),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Puts a message into the inbox.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        method: usize,
        message: Bytes,
        deadline: Option<Instant>,
        stream: Option<&Arc<Stream>>,
    ) -> Answer {
        let stream = stream.map(Arc::clone);
        if !self.has_room() {
            fail(stream.as_ref());
            self.refuse(self.full.code);
            return Answer::already(Reply::Failure(self.full.clone()));
        }
        let call = self.number();
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            sender,
            stream: stream.clone(),
        };
        lock(&self.waiting).insert(call, waiting);
        let arrival = Arrival::Message {
            call,
            stream: stream.as_ref().map(|stream| stream.number),
            method,
            message,
            deadline,
        };
        self.put(Arrived { arrival, stream });
        Answer {
            call,
            receiver,
            calls: Some(Arc::clone(self)),
        }
    }

    pub(crate) fn take(&self, mut bell: &UnixStream) -> Vec<Arrival> {
        let mut rings = [0; 64];
        // Before the inbox is emptied: what arrives later rings again. That there was no ring is nothing wrong.
        let _ = bell.read(&mut rings);
        let arrived = mem::take(&mut *lock(&self.inbox));
        let wanted = arrived.into_iter().filter(|arrived| {
            !(arrived.stream.as_ref())
                .is_some_and(|stream| stream.has_failed.load(Ordering::Relaxed))
        });
        wanted.map(|arrived| arrived.arrival).collect()
    }

    pub(crate) fn reply(&self, call: u64, reply: Reply) {
        let waiting = lock(&self.waiting).remove(&call);
        if let Some(Waiting { sender, stream }) = waiting {
            if matches!(reply, Reply::Failure(_)) {
                fail(stream.as_ref());
            }
            // Whoever left meanwhile wants no answer.
            let _ = sender.send(reply);
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        lock(&self.inbox).len() < self.inbox_max
    }

    fn put(&self, arrived: Arrived) {
        let mut inbox = lock(&self.inbox);
        inbox.push(arrived);
        if inbox.len() == 1 {
            // A bell that is full of rings has been heard as well.
            let _ = (&self.bell).write(&[0]);
        }
    }
}

/// The answer to a call, once there is one; dropped before, it tells that nobody waits any more.
pub(crate) struct Answer {
    call: u64,
    receiver: oneshot::Receiver<Reply>,
    calls: Option<Arc<Calls>>,
}

impl Answer {
    /// Is there at once.
    pub(crate) fn already(reply: Reply) -> Self {
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(reply);
        Self {
            call: 0,
            receiver,
            calls: None,
        }
    }
}

impl Future for Answer {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        // The sender goes only with the whole door.
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|reply| reply.unwrap_or_else(|_| Reply::Failure(Status::default())))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(calls) = self.calls.take()
            && lock(&calls.waiting).remove(&self.call).is_some()
        {
            calls.put(Arrived {
                arrival: Arrival::Left { call: self.call },
                stream: None,
            });
        }
    }
}

/// Lets nothing of a stream be taken any more.
fn fail(stream: Option<&Arc<Stream>>) {
    if let Some(stream) = stream {
        stream.has_failed.store(true, Ordering::Relaxed);
    }
}

/// No code that holds one of these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
