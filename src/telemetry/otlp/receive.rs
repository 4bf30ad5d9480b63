//! What HTTP and gRPC have in common: who may send, how many at once, and what becomes of a body.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Code;

use super::{
    decode,
    store::{Store, Taken},
};
use crate::{
    domain::Text,
    telemetry::{Clock, counting::locked},
};

/// Most requests that are read at once; a sender beyond it is told to come again.
pub const REQUESTS_MAX: usize = 16;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Why a request is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed(Text),
    TooLarge(Text),
    WrongType(Text),
    Unauthorized,
    Busy,
}

impl Refusal {
    pub(super) fn message(&self) -> Text {
        match self {
            Self::Malformed(why) | Self::TooLarge(why) | Self::WrongType(why) => why.clone(),
            Self::Unauthorized => Text::new("send `Authorization: Bearer <the token of this receiver>`"),
            Self::Busy => Text::new(format!("{REQUESTS_MAX} requests are being read: try again")),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Of these only [`Code::Unavailable`] makes a sender try again.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::WrongType(_) => Code::InvalidArgument,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Unauthorized => Code::Unauthenticated,
            Self::Busy => Code::Unavailable,
        }
    }
}

/// Takes in exports, by whichever way they come.
pub(super) struct Receiver {
    pub(super) store: Mutex<Store>,
    /// Tells each time something was taken in.
    pub(super) changed: watch::Sender<u64>,
    clock: Clock,
    token: Option<SecretString>,
    room: Arc<Semaphore>,
    decoding: Mutex<()>,
}

impl Receiver {
    pub(super) fn new(store: Store, clock: Clock, token: Option<SecretString>) -> Self {
        Self {
            store: Mutex::new(store),
            changed: watch::Sender::new(0),
            clock,
            token,
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
            decoding: Mutex::default(),
        }
    }

    /// Lets a sender in who bears the token, where there is one, and as long as there is room.
    pub(super) fn admit(&self, authorization: Option<&[u8]>) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Some(token) = &self.token {
            let given = authorization.and_then(|value| value.split_at_checked(7));
            let bearer = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, given)| given);
            let is_same = |given: &[u8]| {
                // Through digests, so that neither length nor beginning shows in the time taken.
                Sha256::digest(given).ct_eq(&Sha256::digest(token.expose_secret().as_bytes())).into()
            };
            if !bearer.is_some_and(is_same) {
                return Err(Refusal::Unauthorized);
            }
        }
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Refusal::Busy)
    }

    /// Takes in one body, unpacked.
    pub(super) fn take_in(&self, body: &[u8], encoding: Encoding) -> Result<Taken, Refusal> {
        let taken = {
            // One at a time: what a request takes up in memory while it is read is much more than its bytes.
            let _one = locked(&self.decoding);
            let request = match encoding {
                Encoding::Protobuf => decode::protobuf(body)?,
                Encoding::Json => decode::json(body)?,
            };
            locked(&self.store).take_in(request, (self.clock)())
        };
        if taken.rejected > 0 {
            let why = taken.word.as_ref().map_or("", Text::as_str);
            tracing::debug!(points = taken.rejected, why, "data points that were sent are not counted");
        }
        self.changed.send_modify(|taken| *taken += 1);
        Ok(taken)
    }
}
