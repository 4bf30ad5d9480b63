//! A conversation as a file: one JSON object with the number of its format, so that a planning can be handed on and run
//! again. A file that is not whole, or not of this format, is refused with the reason.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::record::RECORD_BYTES_MAX;
use crate::domain::{Conversation, Message};

/// The format that is written and read.
pub const FORMAT: u32 = 1;
/// Most bytes of a file: a whole conversation, with every character escaped.
pub const FILE_BYTES_MAX: usize = 8 * RECORD_BYTES_MAX;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// What is in it is no recording that can be replayed.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    conversation: &'a Conversation,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    #[serde(rename = "format")]
    _format: u32,
    conversation: Conversation,
}

/// Writes a conversation to a file, whole or not at all; a file of that name is replaced.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, conversation: &Conversation) -> Result<(), Error> {
    let failed = |why| Error::File { path: path.to_owned(), why };
    let mut text = serde_json::to_string_pretty(&Written { format: FORMAT, conversation })
        .map_err(|why| failed(std::io::Error::other(why)))?;
    text.push('\n');
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads a conversation from a file.
///
/// # Errors
/// Where the file cannot be read, is larger than [`FILE_BYTES_MAX`], is of another format, or does not hold together.
pub fn read(path: &Path) -> Result<Conversation, Error> {
    let failed = |why| Error::File { path: path.to_owned(), why };
    let wrong = |why: String| Error::Wrong { path: path.to_owned(), why };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes, which no recording is")));
    }
    let Format { format } =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("it is no recording: {error}")))?;
    if format != FORMAT {
        return Err(wrong(format!("it is of format {format}, and this version reads format {FORMAT}: record it anew")));
    }
    let recording: Recording =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("it is no recording: {error}")))?;
    check(&recording.conversation).map_err(wrong)?;
    Ok(recording.conversation)
}

/// Whether every answer is where its exchange says.
fn check(conversation: &Conversation) -> Result<(), String> {
    let mut before = 0;
    for (at, exchange) in conversation.exchanges.iter().enumerate() {
        let number = at + 1;
        if exchange.said < before {
            return Err(format!("exchange {number} comes before the one that it follows"));
        }
        before = exchange.said;
        let said = usize::try_from(exchange.said).unwrap_or(usize::MAX);
        if said > conversation.messages.len() {
            return Err(format!(
                "exchange {number} follows message {said}, and there are {}",
                conversation.messages.len()
            ));
        }
        let is_answered = matches!(conversation.messages.get(said), Some(Message::Assistant { .. }));
        if exchange.failure.is_none() && !is_answered {
            return Err(format!("exchange {number} has no failure, and message {} is no answer of a model", said + 1));
        }
    }
    Ok(())
}
