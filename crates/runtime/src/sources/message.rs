//! What the process that keeps a source says to the one that looks at it: a tag, a length, as
//! many bytes.

use std::io::{self, Read, Write};

use crate::error::{Error, ErrorKind};

/// Longest message, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The source was opened: what comes has nothing to do with what came.
    Begun,
    /// The next bytes.
    Bytes(&'a [u8]),
    /// Something to tell the user.
    Note(&'a str),
    /// Nothing more comes, and that is as it should be.
    Ended,
    /// The source cannot be used.
    Failed(Error),
}

/// Writes a message at once.
///
/// # Errors
/// When nobody reads.
pub fn send(out: &mut impl Write, message: &Message<'_>) -> io::Result<()> {
    let failure;
    let (tag, body) = match message {
        Message::Begun => (b'b', &[][..]),
        Message::Bytes(bytes) => (b'd', *bytes),
        Message::Note(text) => (b'n', text.as_bytes()),
        Message::Ended => (b'e', &[][..]),
        Message::Failed(error) => {
            failure = [&[error.kind().exit_code()], error.to_string().as_bytes()].concat();
            (b'f', &failure[..])
        }
    };
    out.write_all(&[tag])?;
    out.write_all(&(body.len() as u32).to_le_bytes())?;
    out.write_all(body)?;
    out.flush()
}

/// Reads the next message into `body`; `None` when the other process is gone.
pub fn receive<'a>(from: &mut impl Read, body: &'a mut Vec<u8>) -> Option<Message<'a>> {
    let mut start = [0; 5];
    from.read_exact(&mut start).ok()?;
    let [tag, length @ ..] = start;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return None;
    }
    body.resize(length, 0);
    from.read_exact(body).ok()?;
    match tag {
        b'b' => Some(Message::Begun),
        b'd' => Some(Message::Bytes(body)),
        b'n' => std::str::from_utf8(body).ok().map(Message::Note),
        b'e' => Some(Message::Ended),
        b'f' => {
            let (code, text) = body.split_first()?;
            let kind = match code {
                2 => ErrorKind::Usage,
                3 => ErrorKind::BadInput,
                _ => ErrorKind::Failed,
            };
            Some(Message::Failed(Error::new(
                kind,
                std::str::from_utf8(text).ok()?,
            )))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let sent = [
            Message::Begun,
            Message::Bytes(&[1, 2, 3]),
            Message::Bytes(&[]),
            Message::Note("é"),
            Message::Failed(Error::new(ErrorKind::BadInput, "a: b; c")),
            Message::Failed(Error::new(ErrorKind::Usage, "a")),
            Message::Ended,
        ];
        let mut line = Vec::new();
        for message in &sent {
            send(&mut line, message).unwrap();
        }
        let (mut from, mut body) = (&line[..], Vec::new());
        for message in &sent {
            assert_eq!(receive(&mut from, &mut body).as_ref(), Some(message));
        }
        assert_eq!(receive(&mut from, &mut body), None);
        let mut cut = &line[..line.len() - 3];
        let count = std::iter::from_fn(|| receive(&mut cut, &mut body).map(drop)).count();
        assert_eq!(count, sent.len() - 1);
    }
}
