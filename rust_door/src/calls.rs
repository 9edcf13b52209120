//! The inbox, and who waits for an answer.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    mem,
    os::unix::net::UnixStream,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
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
pub enum Reply {
    /// The answer, encoded.
    Message(Bytes),
    /// The call fails; of a stream, all of it.
    Failure(Status),
}

pub(crate) struct Calls {
    inbox: Mutex<Vec<Arrival>>,
    inbox_max: usize,
    full: Status,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    next: AtomicU64,
    bell: UnixStream,
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
        }
    }

    /// Puts a message into the inbox.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        method: usize,
        message: Bytes,
        deadline: Option<Instant>,
    ) -> Answer {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        if !self.has_room() {
            return Answer::already(Reply::Failure(self.full.clone()));
        }
        lock(&self.waiting).insert(call, sender);
        self.put(Arrival::Message {
            call,
            method,
            message,
            deadline,
        });
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
        mem::take(&mut *lock(&self.inbox))
    }

    pub(crate) fn reply(&self, call: u64, reply: Reply) {
        if let Some(sender) = lock(&self.waiting).remove(&call) {
            // Whoever left meanwhile wants no answer.
            let _ = sender.send(reply);
        }
    }

    fn has_room(&self) -> bool {
        lock(&self.inbox).len() < self.inbox_max
    }

    fn put(&self, arrival: Arrival) {
        let mut inbox = lock(&self.inbox);
        inbox.push(arrival);
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
            calls.put(Arrival::Left { call: self.call });
        }
    }
}

/// No code that holds one of these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
