//! What client verbs print: lines, tables, and when they have colours.

use crate::fail::Failure;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};

/// As `print!`, with the result of [`write()`].
macro_rules! put {
    ($($text:tt)*) => { $crate::output::write(&mut std::io::stdout(), format_args!($($text)*)) };
}

/// As `println!`, with the result of [`write()`].
macro_rules! say {
    ($($text:tt)*) => { $crate::output::put!("{}\n", format_args!($($text)*)) };
}

/// As `eprintln!`, and silent if nobody reads standard error.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::write_note(format_args!($($text)*)) };
}

pub(crate) use {note, put, say};

/// Writes a text. A reader that has seen enough (`| head`) is no failure: what is left of the output is for nobody, and the
/// verb ends with the exit code that it would have had.
///
/// # Errors
/// Every other failure to write, such as a full disk.
pub(crate) fn write(to: &mut impl Write, text: Arguments<'_>) -> Result<(), Failure> {
    match to.write_fmt(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. If that fails there is nobody left to tell.
pub(crate) fn write_note(text: Arguments<'_>) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Whether a stream takes colours: a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// A part of a text that is good, bad or new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shade {
    /// As it should be, or added.
    Good,
    /// Wrong, or removed.
    Bad,
}

/// The text in its colour, if standard output takes colours.
pub(crate) fn shade(text: &str, shade: Shade) -> String {
    if !is_coloured(&std::io::stdout()) {
        return text.to_owned();
    }
    let code = match shade {
        Shade::Good => 32,
        Shade::Bad => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Columns, wide enough for their cells, two spaces apart.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>], with_headers: bool) -> String {
    let mut lines: Vec<Vec<&str>> = Vec::with_capacity(rows.len() + 1);
    if with_headers {
        lines.push(headers.to_vec());
    }
    lines.extend(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let widths: Vec<usize> = (0..headers.len())
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{table, write};
    use std::io::{Error, ErrorKind, Write};

    /// Fails every time in the same way.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> Result<usize, Error> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> Result<(), Error> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() {
        assert_eq!(write(&mut Broken(ErrorKind::BrokenPipe), format_args!("text")), Ok(()));
        let failure = write(&mut Broken(ErrorKind::StorageFull), format_args!("text")).expect_err("a failure");
        assert!(failure.problems[0].starts_with("write to standard output: "), "{failure:?}");
    }

    #[test]
    fn columns_align_and_lines_have_no_trailing_spaces() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["X", "LONG"], &rows, true), "X    LONG\na    b\nccc\n");
        assert_eq!(table(&["X", "LONG"], &rows, false), "a    b\nccc\n");
    }
}
