//! Results, on standard output.

use std::io::{self, Write};

use crate::failure::{Failure, reason};
use crate::ui;

/// Prints a line.
///
/// # Errors
/// When it cannot be written, except that a reader who has seen enough is no error.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Prints text as it is.
///
/// # Errors
/// As [`line`].
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let written = ui::aside(|| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::environment(format!("write to standard output: {}", reason(&error))))
        }
        _ => Ok(()),
    }
}

/// Prints a JSON value, indented.
///
/// # Errors
/// As [`line`].
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Prints rows under a head, each column as wide as it must be.
///
/// # Errors
/// As [`line`].
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    write(&text)
}
