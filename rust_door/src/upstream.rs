//! The server behind the door: what the door does not know goes there, and comes back, as it is.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream as Socket},
    },
};

use hyper::{
    Request, Response, Uri,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixStream, sync::Mutex};

use crate::{
    body::Body,
    wire::{self, Status},
};

/// Bytes of a call that may wait here for a slow client, so that the server soon notices; and of all its calls.
const CALL_WINDOW_BYTES: u32 = 1 << 16;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 28;
const UNAVAILABLE: u32 = 14;

/// One connection to it for each of ours, so that no client stands in another's way.
pub(crate) struct Upstream {
    name: String,
    sender: Mutex<Option<SendRequest<Incoming>>>,
}

impl Upstream {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            sender: Mutex::new(None),
        }
    }

    /// Lets it answer a request.
    pub(crate) async fn answered(&self, mut request: Request<Incoming>) -> Response<Body> {
        if request.uri().authority().is_none() {
            let path = request
                .uri()
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned();
            if let Ok(uri) = Uri::builder()
                .scheme("http")
                .authority("candlecast")
                .path_and_query(path)
                .build()
            {
                *request.uri_mut() = uri;
            }
        }
        let sent = match self.sender().await {
            Ok(mut sender) => sender
                .send_request(request)
                .await
                .map_err(|error| whole(&error)),
            Err(error) => Err(error.to_string()),
        };
        match sent {
            Ok(response) => response.map(Body::new),
            Err(why) => wire::failed(&Status {
                code: UNAVAILABLE,
                message: format!("the server behind the door does not answer: {why}"),
                details: Vec::new(),
            }),
        }
    }

    async fn sender(
        &self,
    ) -> Result<SendRequest<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let mut known = self.sender.lock().await;
        if let Some(sender) = known.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = connected(&self.name)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(CALL_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with the last sender; how, its calls are told.
        tokio::spawn(connection);
        *known = Some(sender.clone());
        Ok(sender)
    }
}

/// Says an error with all that lies behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let behind = std::iter::successors(error.source(), |error| error.source());
    behind.fold(error.to_string(), |said, error| format!("{said}: {error}"))
}

/// Connects to an abstract name, which waits for nobody.
fn connected(name: &str) -> io::Result<UnixStream> {
    let socket = Socket::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
