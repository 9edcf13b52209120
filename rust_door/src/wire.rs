//! gRPC over HTTP/2: messages with their length before them, timeouts, statuses.

use std::{fmt::Write as _, io::Read as _, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::body::Body;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODINGS: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How a call failed.
#[derive(Clone, Debug)]
pub struct Status {
    /// As gRPC numbers them.
    pub code: u32,
    /// For people.
    pub message: String,
    /// `google.rpc.Status`, encoded; may be empty.
    pub details: Vec<u8>,
}

impl Status {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as u32,
            message: message.into(),
            details: Vec::new(),
        }
    }
}

impl Default for Status {
    /// Of a server that is gone.
    fn default() -> Self {
        Self::new(Code::Unavailable, "the server has stopped")
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Code {
    Ok = 0,
    Cancelled = 1,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// The messages of a request.
pub(crate) struct Messages {
    body: Incoming,
    buffer: BytesMut,
    bytes_max: usize,
    is_gzip: bool,
}

impl Messages {
    pub(crate) fn of(request: Request<Incoming>, bytes_max: usize) -> Self {
        let is_gzip = request
            .headers()
            .get("grpc-encoding")
            .is_some_and(|encoding| encoding == "gzip");
        Self {
            body: request.into_body(),
            buffer: BytesMut::new(),
            bytes_max,
            is_gzip,
        }
    }

    /// Returns the next one, or that there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.cut()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Status::new(Code::Cancelled, error.to_string())),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "the last message is cut short")),
            }
        }
    }

    /// Returns the message of a request that has exactly one.
    pub(crate) async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self
            .next()
            .await?
            .ok_or_else(|| Status::new(Code::Internal, "there is no message"))?;
        if self.next().await?.is_some() {
            return Err(Status::new(
                Code::Internal,
                "there is more than one message",
            ));
        }
        Ok(message)
    }

    fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut prefix) = self.buffer.get(..PREFIX_BYTES) else {
            return Ok(None);
        };
        let is_compressed = prefix.get_u8() != 0;
        let bytes = prefix.get_u32() as usize;
        self.require_size(bytes)?;
        if self.buffer.len() < PREFIX_BYTES + bytes {
            self.buffer
                .reserve(PREFIX_BYTES + bytes - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(bytes).freeze();
        if !is_compressed {
            return Ok(Some(message));
        }
        if !self.is_gzip {
            return Err(Status::new(
                Code::Internal,
                "a message is compressed, but the call says no grpc-encoding",
            ));
        }
        let mut inflated = Vec::new();
        GzDecoder::new(&message[..])
            .take(self.bytes_max as u64 + 1)
            .read_to_end(&mut inflated)
            .map_err(|error| {
                Status::new(
                    Code::Internal,
                    format!("a message cannot be decompressed: {error}"),
                )
            })?;
        self.require_size(inflated.len())?;
        Ok(Some(inflated.into()))
    }

    fn require_size(&self, bytes: usize) -> Result<(), Status> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let words = format!(
            "Received message larger than max ({bytes} vs. {})",
            self.bytes_max
        );
        Err(Status::new(Code::ResourceExhausted, words))
    }
}

/// Returns what is said to what is no gRPC call, or is compressed in a way that we do not know.
pub(crate) fn refusal(request: &Request<Incoming>) -> Option<Response<Body>> {
    let headers = request.headers();
    if !headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
    {
        let mut refused = Response::new(empty());
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Some(refused);
    }
    let name = match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"gzip") => return None,
        Some(other) => String::from_utf8_lossy(other),
    };
    let words = format!("messages compressed by {name} are not read: use gzip, or none");
    let mut refused = failed(&Status::new(Code::Unimplemented, words));
    refused
        .headers_mut()
        .insert(ENCODINGS, HeaderValue::from_static("identity,gzip"));
    Some(refused)
}

/// Returns how long a caller waits, if it says so in a way that can be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(3_600 * count),
        "M" => Duration::from_secs(60 * count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Returns an answer of one message.
pub(crate) fn whole(message: &[u8]) -> Response<Body> {
    let end = async { Some(Ok(trailers(None))) };
    let body = Full::new(framed(message))
        .map_err(|never| match never {})
        .with_trailers(end);
    response(Body::new(body))
}

/// Returns the answer to a call that failed before it had any.
pub(crate) fn failed(status: &Status) -> Response<Body> {
    let mut response = response(empty());
    response.headers_mut().extend(trailers(Some(status)));
    response
}

pub(crate) fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// Returns what ends a call: how it failed, or that it did not.
pub(crate) fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    let Some(status) = status else {
        trailers.insert(STATUS, HeaderValue::from(Code::Ok as u32));
        return trailers;
    };
    trailers.insert(STATUS, HeaderValue::from(status.code));
    let texts = [
        (MESSAGE, percent(&status.message)),
        (DETAILS, base64(&status.details)),
    ];
    for (name, text) in texts {
        if !text.is_empty()
            && let Ok(value) = HeaderValue::try_from(text)
        {
            trailers.insert(name, value);
        }
    }
    trailers
}

/// Returns a message with its length before it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("no message has 4 GB"));
    framed.put_slice(message);
    framed.freeze()
}

fn empty() -> Body {
    Body::new(Empty::new().map_err(|never| match never {}))
}

/// Writes what is not printable ASCII as gRPC wants it.
fn percent(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => written.push(char::from(byte)),
            _ => write!(written, "%{byte:02X}").expect("a string takes all"),
        }
    }
    written
}

/// Writes bytes as headers whose names end in -bin carry them: base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut written = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            written.push(char::from(
                LETTERS[(bits >> (18 - 6 * place)) as usize & 63],
            ));
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_of_some_unit() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).unwrap());
            timeout(&headers)
        };
        assert_eq!(read("10S"), Some(Duration::from_secs(10)));
        assert_eq!(read("9999850u"), Some(Duration::from_micros(9_999_850)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        for none in ["", "S", "5", "123456789S", "-1S", "1s", "é"] {
            assert_eq!(
                HeaderValue::from_str(none).ok().and_then(|_| read(none)),
                None,
                "{none}"
            );
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn words_and_bytes_travel_as_grpc_has_them() {
        assert_eq!(percent("50 % of é\n"), "50 %25 of %C3%A9%0A");
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xFB, 0xEF, 0xFF]), "++//");
    }

    #[test]
    fn a_status_is_told_in_trailers() {
        let ok = trailers(None);
        assert_eq!((ok.len(), &ok[STATUS]), (1, &HeaderValue::from_static("0")));
        let failed = trailers(Some(&Status {
            code: 8,
            message: "too much".to_owned(),
            details: vec![1, 2],
        }));
        assert_eq!(failed[STATUS], "8");
        assert_eq!(failed[MESSAGE], "too much");
        assert_eq!(failed[DETAILS], "AQI");
    }
}
