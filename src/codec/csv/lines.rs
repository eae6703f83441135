//! A byte stream handed on line by line, so that the line a record starts on is known exactly and a record has a longest length.
//! It does not know quotes: whoever reads says where a record starts.

use std::io::{self, Read};

use super::ROW_BYTES_MAX;
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 64 * 1024;

/// Hands out at most one line a call, so that the CSV parser never holds bytes of the record after the one it parses.
pub(super) struct Lines<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The line of the next byte, from 1.
    line: u64,
    /// The byte before was CR: an LF now belongs to the same line end.
    after_return: bool,
    /// No byte of the record was handed out yet: line ends are blank lines.
    between: bool,
    record_line: u64,
    record_bytes: usize,
    last_line: u64,
    too_long: bool,
    /// Where the next byte lies in the stream.
    offset: u64,
    record_offset: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            line: 1,
            after_return: false,
            between: true,
            record_line: 1,
            record_bytes: 0,
            last_line: 1,
            too_long: false,
            offset: 0,
            record_offset: 0,
        }
    }

    /// Drops a UTF-8 byte order mark at the start of the stream.
    ///
    /// # Errors
    /// `Invalid` on an empty stream and on UTF-16; `Unavailable` if the stream fails.
    pub(super) fn strip_byte_order_mark(&mut self) -> Result<()> {
        while self.end < 3 && self.fill().map_err(input_failed)? {}
        match &self.buffer[..self.end] {
            [] => Err(Error::invalid("the file is empty: its first line must name the columns")),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(Error::invalid("the file is UTF-16: save it as a CSV file in UTF-8")),
            [0xef, 0xbb, 0xbf, ..] => {
                (self.start, self.offset) = (3, 3);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Says that the next byte starts a record.
    pub(super) fn start_record(&mut self) {
        self.between = true;
        self.record_bytes = 0;
    }

    /// The line on which the present record starts.
    pub(super) fn record_line(&self) -> u64 {
        self.record_line
    }

    /// The line on which what was handed out of the present record ends.
    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Where the present record starts in the stream.
    pub(super) fn record_offset(&self) -> u64 {
        self.record_offset
    }

    /// Where what was handed out ends in the stream. Between records that is the end of the last one, or of the blank lines behind it.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Says that the next byte, which starts a record, lies on this line.
    pub(super) fn go_on_at(&mut self, line: u64) {
        self.line = line;
        self.after_return = false;
    }

    /// Did the present record exceed [`ROW_BYTES_MAX`]?
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Reads more behind what is buffered; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn count(&mut self, byte: u8) {
        if byte == b'\r' || (byte == b'\n' && !self.after_return) {
            self.line += 1;
        }
        self.after_return = byte == b'\r';
    }

    fn skip_line_ends(&mut self) {
        while self.start < self.end && matches!(self.buffer[self.start], b'\r' | b'\n') {
            self.count(self.buffer[self.start]);
            self.start += 1;
            self.offset += 1;
        }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.start == self.end && !self.fill()? {
                return Ok(0);
            }
            if !self.between {
                break;
            }
            self.skip_line_ends();
            if self.start < self.end {
                self.between = false;
                self.record_line = self.line;
                self.record_offset = self.offset;
                break;
            }
        }
        let held = &self.buffer[self.start..self.end.min(self.start + out.len())];
        let bytes = held.iter().position(|byte| matches!(byte, b'\r' | b'\n')).map_or(held.len(), |at| at + 1);
        let Some(&last) = held[..bytes].last() else { return Ok(0) };
        out[..bytes].copy_from_slice(&held[..bytes]);
        self.start += bytes;
        self.offset += bytes as u64;
        self.last_line = self.line;
        // An LF that completes a CRLF comes alone in its chunk, so the byte before it is known to be the CR.
        if bytes > 1 {
            self.after_return = false;
        }
        self.count(last);
        self.record_bytes += bytes;
        if self.record_bytes > ROW_BYTES_MAX {
            self.too_long = true;
            return Err(io::Error::other("row too long"));
        }
        Ok(bytes)
    }
}

/// The error of a reader that failed: the house's own error if it holds one, else `Unavailable`.
pub(super) fn input_failed(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::unavailable("the file could not be read to its end: try again").caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_houses_own_error_comes_through_a_reader_unchanged() {
        let error = input_failed(io::Error::other(Error::not_found("the blob is gone")));
        assert_eq!(error.message(), "the blob is gone");
        assert!(input_failed(io::Error::from(io::ErrorKind::ConnectionReset)).is_transient());
    }

    #[test]
    fn a_read_hands_out_one_line_and_counts_every_kind_of_line_end_once() {
        let mut lines = Lines::new(&b"\r\n\n\ra\r\nb\rc\nd"[..]);
        let mut out = [0; 16];
        for (text, line) in [("a\r", 4), ("b\r", 5), ("c\n", 6), ("d", 7)] {
            lines.start_record();
            let bytes = lines.read(&mut out).unwrap();
            assert_eq!((&out[..bytes], lines.record_line(), lines.last_line()), (text.as_bytes(), line, line));
        }
        assert_eq!(lines.read(&mut out).unwrap(), 0);
    }
}
