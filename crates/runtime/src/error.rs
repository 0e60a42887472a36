//! The one error type of the runtime and the command line: a kind, which decides the
//! exit code, and one line that names the file, what is wrong and what to do.
//! Printing and exiting are not here; that is the command line's work.

use std::fmt::{self, Display, Write as _};
use std::path::Path;

/// What sort of failure an [`Error`] is. Scripts see it as the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Failed while running: input or output, full disk. Exit code 1.
    Failed,
    /// Wrong usage of a command or a flag. Exit code 2.
    Usage,
    /// Samples, model or head file unreadable or damaged. Exit code 3.
    BadInput,
    /// Would exceed the memory or time budget. Exit code 4.
    OverBudget,
    /// Head and backbone, or head and data, do not fit together. Exit code 5.
    Mismatch,
    /// Signature missing or wrong. Exit code 6.
    Signature,
}

impl ErrorKind {
    /// The exit code of the process that ends with this kind of error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::BadInput => 3,
            Self::OverBudget => 4,
            Self::Mismatch => 5,
            Self::Signature => 6,
        }
    }
}

/// A failure. `Display` gives exactly one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that belongs to no file. Control characters in `message` are escaped.
    pub fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self {
            kind,
            message: escaped(&message.to_string()),
        }
    }

    /// An error about one file or folder: "PATH: what; remedy".
    pub fn at(kind: ErrorKind, path: &Path, what: impl Display, remedy: impl Display) -> Self {
        Self::new(kind, format_args!("{}: {what}; {remedy}", path.display()))
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// `text` on one line that a terminal shows as it is: control characters, line
/// separators and bidirectional overrides become escapes, since file names may hold any.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            _ if is_hostile(character) => {
                let code = u32::from(character);
                // Writing to a String cannot fail.
                let _ = write!(line, "\\u{{{code:x}}}");
            }
            _ => line.push(character),
        }
    }
    line
}

/// Characters that move the cursor, start a line or reorder the text around them.
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_without_control_characters() {
        let path = Path::new("a\nb\u{1b}[31m.jpg");
        let error = Error::at(
            ErrorKind::BadInput,
            path,
            "not an\r\nimage",
            "replace\tit\u{202e}",
        );
        let line = error.to_string();
        assert_eq!(
            line,
            "a\\nb\\u{1b}[31m.jpg: not an\\r\\nimage; replace\\tit\\u{202e}"
        );
        assert!(!line.chars().any(is_hostile));
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let kinds = [
            ErrorKind::Failed,
            ErrorKind::Usage,
            ErrorKind::BadInput,
            ErrorKind::OverBudget,
            ErrorKind::Mismatch,
            ErrorKind::Signature,
        ];
        assert_eq!(kinds.map(ErrorKind::exit_code), [1, 2, 3, 4, 5, 6]);
    }
}
