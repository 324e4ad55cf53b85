//! Server-sent events, cut apart without changing a byte.
//!
//! The parser is our own because what is needed is the opposite of what parsers give: they hand out
//! decoded fields and drop comments, line ends and whatever they do not know, and we pass on the
//! bytes. It only finds where events end and what their fields say; a parser of the standard is its
//! oracle in tests.

use std::ops::Range;

use bytes::{Buf as _, Bytes};

#[cfg(test)]
mod tests;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An event is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Cuts a stream after each event: at the end of the blank line that ends it.
///
/// Where it cuts is a function of the bytes and never of the chunks they come in. A blank line that is
/// a single CR ends its event at once, unless the lines before end with CRLF: then its LF is waited
/// for. A BOM at the start is cut off by itself, so that an event of ours may follow it.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// The bytes of the event that is not complete yet.
    partial: Vec<u8>,
    bytes_max: usize,
    /// How much of a BOM there was, as long as there was nothing else.
    bom: Option<usize>,
    line: Line,
    /// The last line ended with CRLF.
    crlf: bool,
}

/// Where in a line the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// At its start.
    Start,
    /// After its first byte.
    Middle,
    /// After the CR of a line that was not blank; an LF still belongs to it.
    AfterCr,
    /// After the CR of a blank line in a stream of CRLF; an LF still belongs to it.
    BlankAfterCr,
}

/// Where to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    No,
    Before,
    After,
}

impl Cutter {
    /// Cuts events of at most `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { partial: Vec::new(), bytes_max, bom: Some(0), line: Line::Start, crlf: false }
    }

    /// Takes the bytes of one event from `chunk`; nothing if its end has not come, and then all of
    /// `chunk` is taken.
    pub(crate) fn cut(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, TooLong> {
        let mut length = None;
        for (at, &byte) in chunk.iter().enumerate() {
            match self.step(byte) {
                Cut::No => {}
                Cut::Before => length = Some(at),
                Cut::After => length = Some(at.saturating_add(1)),
            }
            if length.is_some() {
                break;
            }
        }
        let taken = length.unwrap_or(chunk.len());
        if self.partial.len().saturating_add(taken) > self.bytes_max {
            return Err(TooLong);
        }
        match length {
            Some(length) if self.partial.is_empty() => Ok(Some(chunk.split_to(length))),
            Some(length) => {
                self.partial.extend_from_slice(&chunk.split_to(length));
                Ok(Some(std::mem::take(&mut self.partial).into()))
            }
            None => {
                self.partial.extend_from_slice(chunk);
                chunk.advance(chunk.len());
                Ok(None)
            }
        }
    }

    /// The stream has ended: what there is of an event, and the line ends that it lacks.
    pub(crate) fn finish(&mut self) -> Option<(Bytes, &'static [u8])> {
        let bytes = std::mem::take(&mut self.partial);
        let lacks: &[u8] = match (self.line, self.bom) {
            (Line::BlankAfterCr, _) => b"",
            // An LF alone would belong to the CR.
            (Line::Middle | Line::AfterCr, _) | (_, Some(1..)) => b"\n\n",
            (Line::Start, _) => b"\n",
        };
        (!bytes.is_empty()).then(|| (bytes.into(), lacks))
    }

    /// Forgets what there is of an event.
    pub(crate) fn forget(&mut self) {
        self.partial = Vec::new();
    }

    fn step(&mut self, byte: u8) -> Cut {
        if let Some(seen) = self.bom {
            if BOM.get(seen) == Some(&byte) {
                let seen = seen.saturating_add(1);
                let whole = seen == BOM.len();
                self.bom = (!whole).then_some(seen);
                return if whole { Cut::After } else { Cut::No };
            }
            self.bom = None;
            if seen > 0 {
                self.line = Line::Middle;
            }
        }
        match (self.line, byte) {
            (Line::BlankAfterCr, b'\n') => {
                self.line = Line::Start;
                Cut::After
            }
            (Line::BlankAfterCr, _) => {
                // The byte is looked at again, as the first of the next event.
                self.crlf = false;
                self.line = Line::Start;
                Cut::Before
            }
            (Line::AfterCr, b'\n') => {
                self.crlf = true;
                self.line = Line::Start;
                Cut::No
            }
            (Line::AfterCr, _) => {
                self.crlf = false;
                self.line = Line::Start;
                self.in_line(byte)
            }
            (Line::Start | Line::Middle, _) => self.in_line(byte),
        }
    }

    fn in_line(&mut self, byte: u8) -> Cut {
        let blank = self.line == Line::Start;
        let (line, cut) = match byte {
            b'\n' if blank => (Line::Start, Cut::After),
            b'\n' => {
                self.crlf = false;
                (Line::Start, Cut::No)
            }
            b'\r' if blank && self.crlf => (Line::BlankAfterCr, Cut::No),
            b'\r' if blank => (Line::Start, Cut::After),
            b'\r' => (Line::AfterCr, Cut::No),
            _ => (Line::Middle, Cut::No),
        };
        self.line = line;
        cut
    }
}

/// What an event says, as a parser of the standard reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Its name; empty for a message.
    pub(crate) name: Vec<u8>,
    /// Its data; nothing if it has none, and then no client is told of it.
    pub(crate) data: Option<Vec<u8>>,
}

impl Fields {
    /// Reads the bytes of one event.
    pub(crate) fn read(event: &[u8]) -> Self {
        let mut fields = Self::default();
        for line in lines(event) {
            let line = event.get(line).unwrap_or_default();
            let colon = line.iter().position(|&byte| byte == b':');
            let (name, value) = match colon {
                Some(at) => (line.get(..at), line.get(at.saturating_add(1)..)),
                None => (Some(line), None),
            };
            let value = value.unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name.unwrap_or_default() {
                b"event" => fields.name = value.to_vec(),
                b"data" => match &mut fields.data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => fields.data = Some(value.to_vec()),
                },
                _ => {}
            }
        }
        fields
    }
}

/// The lines of an event, without their ends.
pub(crate) fn lines(event: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = event.get(at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let length = length.unwrap_or(rest.len());
        let end = match (rest.get(length), rest.get(length.saturating_add(1))) {
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(_), _) => 1,
            (None, _) => 0,
        };
        let line = at..at.saturating_add(length);
        at = line.end.saturating_add(end);
        Some(line)
    })
}
