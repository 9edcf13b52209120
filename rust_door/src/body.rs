//! Bodies of answers, and the conversation of a stream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Response, body::Frame};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

use crate::{
    Shared,
    calls::{Answer, Reply},
    stopping,
    wire::{self, Messages, Status},
};

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// An answer that is due, and the room that its message takes until it is there.
struct Due {
    answer: Answer,
    _room: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Due {
    fn failure(status: Status) -> Self {
        Self {
            answer: Answer::already(Reply::Failure(status)),
            _room: None,
        }
    }
}

/// Hands over each message of a stream, and answers them in order.
pub(crate) fn streamed(shared: &Arc<Shared>, method: usize, messages: Messages) -> Response<Body> {
    let (due, answers) = mpsc::unbounded_channel(); // what is in it has taken room
    let reader = tokio::spawn(read(Arc::clone(shared), method, messages, due)).abort_handle();
    wire::response(Body::new(Answers {
        answers,
        next: None,
        reader,
        has_ended: false,
    }))
}

async fn read(
    shared: Arc<Shared>,
    method: usize,
    mut messages: Messages,
    due: mpsc::UnboundedSender<Due>,
) {
    let mut phase = shared.phase.clone();
    let bytes_max = shared.settings.stream_bytes_max;
    let places = Arc::new(Semaphore::new(shared.settings.stream_messages_max));
    let room = Arc::new(Semaphore::new(bytes_max as usize));
    let stream = shared.calls.stream();
    let one = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match messages.next().await {
                Ok(Some(message)) => {
                    let bytes = u32::try_from(message.len())
                        .unwrap_or(u32::MAX)
                        .clamp(1, bytes_max);
                    let Ok(bytes) = Arc::clone(&room).acquire_many_owned(bytes).await else {
                        return;
                    };
                    let answer = shared.calls.arrive(method, message, None, Some(&stream));
                    let _ = due.send(Due {
                        answer,
                        _room: Some((place, bytes)),
                    });
                }
                Ok(None) => return,
                Err(status) => {
                    shared.calls.refuse(status.code);
                    let _ = due.send(Due::failure(status));
                    return;
                }
            }
        }
    };
    let stopped = tokio::select! {
        biased;
        status = stopping(&mut phase) => Some(status),
        () = one => None,
    };
    if let Some(status) = stopped {
        let _ = due.send(Due::failure(status));
    }
}

struct Answers {
    answers: mpsc::UnboundedReceiver<Due>,
    next: Option<Due>,
    reader: AbortHandle,
    has_ended: bool,
}

impl hyper::body::Body for Answers {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let end = loop {
            if let Some(due) = &mut self.next {
                let reply = ready!(Pin::new(&mut due.answer).poll(context));
                self.next = None;
                match reply {
                    Reply::Message(message) => {
                        return Poll::Ready(Some(Ok(Frame::data(wire::framed(&message)))));
                    }
                    Reply::Failure(status) => break wire::trailers(Some(&status)),
                }
            }
            match ready!(self.answers.poll_recv(context)) {
                Some(due) => self.next = Some(due),
                None => break wire::trailers(None),
            }
        };
        self.has_ended = true;
        self.reader.abort();
        Poll::Ready(Some(Ok(Frame::trailers(end))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
