//! Tables, and when they have colours.

use std::io::IsTerminal;

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
    use super::table;

    #[test]
    fn columns_align_and_lines_have_no_trailing_spaces() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["X", "LONG"], &rows, true), "X    LONG\na    b\nccc\n");
        assert_eq!(table(&["X", "LONG"], &rows, false), "a    b\nccc\n");
    }
}
