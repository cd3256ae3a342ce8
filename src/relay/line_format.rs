//! How a line looks on rsup's own stdout or stderr.

use super::plan::{LineFormat, StreamPlan};
use crate::json_string;
use crate::log::LineFormatter;
use crate::sys::StagingPipe;

/// The longest line in bytes, with its newline and with everything that the format adds. A longer line of a program is
/// written as several lines.
pub(super) const MAX_LINE: usize = StagingPipe::CAPACITY;

/// The SGR codes of the colours in which names are displayed. Processes that are neighbours in the configuration get
/// different colours.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// A part of what a program has written.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The text, without the newline at its end.
    pub(super) text: &'a [u8],
    /// Whether a newline is written after the text. The unfinished line of a progress bar gets no newline.
    pub(super) gets_newline: bool,
}

/// Appends as much of `piece` as fits into one line. Returns the number of bytes of its text that were appended. `time`
/// adds the time of JSON lines.
pub(super) fn append(
    out: &mut Vec<u8>,
    format: LineFormat,
    in_colour: bool,
    stream: &StreamPlan,
    time: &mut LineFormatter,
    piece: Piece<'_>,
) -> usize {
    let start = out.len();
    let mut text = cut(piece.text, MAX_LINE - 1);
    loop {
        match format {
            LineFormat::Plain => out.extend(text),
            LineFormat::Prefix { width } => {
                append_prefix(out, stream, width, in_colour);
                out.extend(text);
            }
            LineFormat::Json => append_json(out, stream, time, text),
            LineFormat::NameAndChannel => {
                out.extend(format!("{} {} | ", stream.name, stream.channel.name()).bytes());
                out.extend(text);
            }
        }
        if piece.gets_newline {
            out.push(b'\n');
        }
        let excess = (out.len() - start).saturating_sub(MAX_LINE);
        if excess == 0 || text.is_empty() {
            return text.len();
        }
        out.truncate(start);
        // Each byte of the text takes at least one byte of the line. So a text without its last `excess` bytes fits.
        let fitting = if excess < text.len() { text.len() - excess } else { text.len() / 2 };
        text = cut(text, fitting);
    }
}

/// The beginning of `text`, at most `length` bytes. Does not end in the middle of a UTF-8 character.
fn cut(text: &[u8], length: usize) -> &[u8] {
    let is_continued = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (length.saturating_sub(3)..=length).rev().find(|end| !is_continued(*end)).unwrap_or(length);
    text.get(..end).unwrap_or(text)
}

fn append_prefix(out: &mut Vec<u8>, stream: &StreamPlan, width: usize, in_colour: bool) {
    let name = &stream.name;
    let colour = COLOURS.get(stream.process % COLOURS.len()).filter(|_| in_colour);
    let prefix = match colour {
        Some(colour) => format!("\x1b[{colour}m{name:width$} |\x1b[0m "),
        None => format!("{name:width$} | "),
    };
    out.extend(prefix.bytes());
}

fn append_json(out: &mut Vec<u8>, stream: &StreamPlan, time: &mut LineFormatter, text: &[u8]) {
    let channel = stream.channel.name();
    time.begin_json_with_time(out);
    out.extend(b", \"program\": ");
    json_string::append(out, stream.name.as_bytes());
    out.extend(format!(", \"stream\": \"{channel}\", \"message\": ").bytes());
    json_string::append(out, text);
    out.push(b'}');
}
