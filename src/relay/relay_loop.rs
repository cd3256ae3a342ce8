//! The relay's loop. It reads the pipes of the programs and passes what it reads to log files and to rsup's own
//! streams.

use super::capture::Part;
use super::line_format::{self, MAX_LINE};
use super::listeners::{self, Listeners};
use super::log_file::LogFile;
use super::outlet::Outlet;
use super::plan::{Channel, LineFormat, Plan, StreamPlan};
use super::record::ChangeRecord;
use super::stream::{Stream, UnfinishedLine};
use crate::log::LineFormatter;
use crate::policy::Level;
use crate::sys::{self, Errno, OutputStream, Poller};
use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

/// The number that the poller reports when the pipe of records can be read. For a stream, it reports the index.
const RECORDS_TAG: u64 = u64::MAX - 1;
/// The number that the poller reports when the pipe of rsup's own log can be read.
const LOG_TAG: u64 = u64::MAX - 2;
/// The numbers that the poller reports when an outlet has room: this number for the first outlet, and the next one for
/// the second.
const FIRST_OUTLET_TAG: u64 = u64::MAX - 4;

/// How many bytes one read returns at most. A log file exceeds its maximum by less than this, as rotation takes place
/// between two reads.
const READ_SIZE: usize = 32 * 1024;
/// How many bytes one read returns at most for a stream without a log file. Its bytes go to one of rsup's own
/// streams: they are copied twice more, and each copy uses memory.
const OUTLET_READ_SIZE: usize = READ_SIZE / 2;
/// How many bytes one read returns at most for a stream without a log file if its lines become JSON objects. The JSON
/// objects are about twice as long as the lines.
const JSON_OUTLET_READ_SIZE: usize = OUTLET_READ_SIZE / 2;
/// How many reads in a row one stream gets after its process has ended. These reads empty a full pipe of 64 KiB,
/// except if each of them returns at most [`JSON_OUTLET_READ_SIZE`] bytes.
const MAX_READS_AFTER_EXIT: usize = 6;
/// An unfinished line is written if no more output follows within this number of nanoseconds.
const FLUSH_AFTER: u64 = 1_000_000_000;
/// While at least this many bytes of log lines wait, the relay drops log lines of its own.
const MAX_PENDING_LOG_BYTES: usize = 16 * 1024;

/// Carries the output of the programs until no process can write to the pipes any more. Returns the exit status of the
/// relay: [`FINISHED`], or 1 if the relay cannot work, for example because too few descriptors are left.
#[must_use]
pub fn run(plan: &Plan) -> u8 {
    let Ok(mut relay_loop) = RelayLoop::new(plan) else { return FAILED };
    if relay_loop.run() { FINISHED } else { FAILED }
}

/// The exit status of a relay that has written everything.
pub const FINISHED: u8 = 0;
/// The exit status of a relay that cannot work.
const FAILED: u8 = 1;

struct RelayLoop<'a> {
    plan: &'a Plan,
    poller: Poller,
    streams: Vec<Stream>,
    files: Vec<LogFile<'a>>,
    /// rsup's stdout and stderr, or only one if both are the same.
    outlets: Vec<Outlet<'a>>,
    /// rsup's own log lines, those of the relay included.
    log: Stream,
    /// Whether the relay has stopped reading rsup's log until stderr has room.
    log_awaits_room: bool,
    /// Whether no more log lines of rsup can come: rsup has exited, or there is no pipe for them.
    log_input_has_ended: bool,
    /// Whether the poller could not watch a descriptor. This relay then ends, and rsup forks a relay that watches all
    /// descriptors anew.
    watch_failed: bool,
    line_formatter: LineFormatter,
    /// `None` if there are no event listeners.
    listeners: Option<Listeners<'a>>,
    /// The memory for one read.
    buffer: Vec<u8>,
    /// The streams that may hold an unfinished line, each with the time at which the relay checks whether the line has
    /// to be written.
    flush_queue: VecDeque<(u64, usize)>,
    /// The number of streams that are not at end of file.
    open_streams: usize,
    /// Whether more programs may be started.
    more_programs_may_start: bool,
}

/// The result of reading from a stream once.
#[derive(PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    EndOfFile,
}

impl<'a> RelayLoop<'a> {
    fn new(plan: &'a Plan) -> Result<Self, Errno> {
        let poller = Poller::new()?;
        for (index, stream) in (0..).zip(&plan.streams) {
            poller.add(&stream.pipe, index)?;
        }
        poller.add(&plan.records, RECORDS_TAG)?;
        if let Some(log) = &plan.log {
            poller.add(log, LOG_TAG)?;
        }
        let staging_pipes = plan.staging_pipes.each_ref().map(Option::as_ref).into_iter();
        let staging_and_journal_pairs =
            staging_pipes.zip(plan.outlet_journals.each_ref().map(Option::as_ref));
        let streams = [OutputStream::stdout(), OutputStream::stderr()].into_iter();
        let outlets = streams
            .zip(staging_and_journal_pairs)
            .map(|(stream, (staging, journal))| Outlet::new(stream, staging, journal));
        let outlets = outlets.take(if sys::stdout_is_stderr() { 1 } else { 2 }).collect();
        let stream = |(index, of_plan): (usize, &StreamPlan)| {
            Stream::new(plan.inside_line_flags.is_inside_line(index), of_plan.capture_maxbytes)
        };
        let streams = plan.streams.iter().enumerate().map(stream);
        Ok(Self {
            plan,
            poller,
            streams: streams.collect(),
            files: plan.files.iter().map(LogFile::new).collect(),
            outlets,
            log: Stream::new(plan.inside_line_flags.is_inside_line(plan.streams.len()), None),
            log_awaits_room: false,
            log_input_has_ended: plan.log.is_none(),
            watch_failed: false,
            line_formatter: LineFormatter::new(plan.log_format),
            listeners: plan.listeners.as_ref().map(|listeners| Listeners::new(listeners, plan.threshold)),
            buffer: vec![0; READ_SIZE],
            flush_queue: VecDeque::new(),
            open_streams: plan.streams.len(),
            more_programs_may_start: true,
        })
    }

    /// Returns whether everything is written. Returns false if the relay cannot continue.
    fn run(&mut self) -> bool {
        // An earlier relay may have left lines in the staging pipes or in the journals.
        for outlet in 0..self.outlets.len() {
            self.continue_outlet(outlet);
        }
        let mut ready = Vec::new();
        while !self.is_done() {
            if self.watch_failed {
                return false;
            }
            let until_flush = self
                .flush_queue
                .front()
                .map(|(at, _)| Duration::from_nanos(at.saturating_sub(sys::monotonic_nanos())));
            let until_tick = self.listeners.as_ref().and_then(Listeners::wait);
            let timeout = until_flush.into_iter().chain(until_tick).min();
            self.poller.wait(timeout, |tag| ready.push(tag));
            for tag in ready.drain(..) {
                self.handle(tag);
            }
            self.flush_due_lines();
            self.dispatch_events();
        }
        true
    }

    /// Whether every byte is written, and no process can write another one.
    fn is_done(&mut self) -> bool {
        if self.more_programs_may_start || self.open_streams > 0 {
            return false;
        }
        // rsup keeps the pipe of its log open until rsup exits. So the relay empties this pipe, and does not wait for
        // its end of file.
        while self.relay_log() == Read::Some && !self.log_awaits_room {}
        self.log.length() == 0 && self.outlets.iter().all(Outlet::accepts_lines)
    }

    fn handle(&mut self, tag: u64) {
        match tag {
            RECORDS_TAG => self.read_records(),
            LOG_TAG => {
                self.relay_log();
            }
            Poller::WAIT_FAILED => self.handle_everything(),
            tag if tag >= FIRST_OUTLET_TAG => self.continue_outlet(usize::from(tag > FIRST_OUTLET_TAG)),
            tag if tag >= listeners::FIRST_TAG => {
                if let Some(listeners) = &mut self.listeners {
                    listeners.read_and_flush(tag, &self.poller);
                }
            }
            tag => self.relay_stream(usize::try_from(tag).unwrap_or(usize::MAX)),
        }
    }

    /// Handles every descriptor, because any descriptor may be ready after an error of the poller.
    fn handle_everything(&mut self) {
        self.read_records();
        self.relay_log();
        for outlet in 0..self.outlets.len() {
            self.continue_outlet(outlet);
        }
        for index in 0..self.streams.len() {
            self.relay_stream(index);
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.read_and_flush_all(&self.poller);
        }
    }

    /// Sends events to the listeners, and logs what has happened to the listeners.
    fn dispatch_events(&mut self) {
        let Some(listeners) = &mut self.listeners else { return };
        listeners.send_events();
        for (level, text) in listeners.log_lines.take() {
            self.log_line(level, &text);
        }
    }

    /// Reads the records of what has happened to the processes. If a process has ended, everything that it has
    /// written is already in its pipes.
    fn read_records(&mut self) {
        let mut records = [0; 4096];
        let length = match sys::read_pipe(&self.plan.records, &mut records) {
            Ok(0) => {
                self.more_programs_may_start = false;
                return self.poller.remove(&self.plan.records);
            }
            Ok(length) => length,
            // The pipe is empty.
            Err(_) => return,
        };
        for record in ChangeRecord::read(records.get(..length).unwrap_or_default()) {
            // As in supervisord, the events of the last output of a process come before the event of its end. If the
            // relay cannot read all of this output now, the events of the rest come later.
            if let ChangeRecord::Ended { process } = record {
                self.on_process_exited(process);
            }
            if let Some(listeners) = &mut self.listeners {
                listeners.apply(record, &self.poller);
            }
        }
    }

    fn on_process_exited(&mut self, process: usize) {
        for (index, plan) in self.plan.streams.iter().enumerate() {
            if plan.process == process {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.has_ended = true;
                }
                // The file is closed before the rest of the pipe is read, because the next run of the process may have
                // begun, and the pipe may contain the output of the next run. As in supervisord, the output of the next
                // run goes to the file that the path leads to now.
                if let Some(file) = plan.file.and_then(|file| self.files.get_mut(file)) {
                    file.close();
                }
                self.relay_stream(index);
            }
        }
    }

    /// Reads from a stream and writes what it has read, unless the outlet has no room.
    fn relay_stream(&mut self, index: usize) {
        let Some(stream) = self.streams.get(index).filter(|stream| !stream.is_closed) else { return };
        let reads = if stream.has_ended { MAX_READS_AFTER_EXIT } else { 1 };
        let mut last = Read::Some;
        for _ in 0..reads {
            // Bytes that cannot be written stay in the pipe, where they are safe if this relay is killed.
            if !self.has_room(index) || !self.write_lines(index, false) {
                return self.pause_stream(index);
            }
            last = self.read(index);
            if last != Read::Some {
                break;
            }
        }
        if last == Read::EndOfFile {
            self.mark_closed(index);
        }
        let has_ended = |stream: &Stream| stream.has_ended || stream.is_closed;
        let all_output_read = last != Read::Some && self.streams.get(index).is_some_and(has_ended);
        if all_output_read {
            self.write_held_by_capture(index);
        }
        if !self.write_lines(index, all_output_read) {
            return self.pause_stream(index);
        }
        if let Some(stream) = self.streams.get_mut(index).filter(|_| all_output_read) {
            stream.has_ended = false;
            stream.stop_skipping();
            self.plan.inside_line_flags.set_inside_line(index, false);
        }
        self.schedule_flush(index);
    }

    /// Whether a stream may be read: its lines go only to a log file, or it has no outlet, or its outlet can take
    /// lines.
    fn has_room(&self, index: usize) -> bool {
        let Some(plan) = self.plan.streams.get(index) else { return false };
        let outlet = plan.outlet.and_then(|outlet| self.outlets.get(outlet_index(outlet, &self.outlets)));
        plan.file.is_some() && !plan.prints_like_supervisor_stdout || outlet.is_none_or(Outlet::accepts_lines)
    }

    fn read(&mut self, index: usize) -> Read {
        let (Some(plan), Some(stream)) = (self.plan.streams.get(index), self.streams.get(index)) else {
            return Read::Nothing;
        };
        let length = match self.plan.format {
            _ if plan.file.is_some() => READ_SIZE,
            LineFormat::Json => JSON_OUTLET_READ_SIZE,
            LineFormat::Plain | LineFormat::Prefix { .. } | LineFormat::NameAndChannel => OUTLET_READ_SIZE,
        };
        let mut buffer = mem::take(&mut self.buffer);
        // If the relay is killed during the read, the next relay does not know how much was read. So the stream
        // counts as inside a line until the read is over.
        let was_inside_line = stream.is_inside_line();
        let tracks_inside_line = plan.file.is_none() || plan.prints_like_supervisor_stdout;
        if tracks_inside_line {
            self.plan.inside_line_flags.set_inside_line(index, true);
        }
        let read = sys::read_pipe(&plan.pipe, buffer.get_mut(..length).unwrap_or_default());
        match read {
            Ok(count) if count > 0 => self.distribute(index, buffer.get(..count).unwrap_or_default()),
            Ok(_) | Err(_) if tracks_inside_line => {
                self.plan.inside_line_flags.set_inside_line(index, was_inside_line)
            }
            Ok(_) | Err(_) => {}
        }
        self.buffer = buffer;
        match read {
            Ok(0) => Read::EndOfFile,
            Ok(_) => Read::Some,
            Err(_) => Read::Nothing,
        }
    }

    /// Passes on what a process has written, and tells the listeners about it.
    fn distribute(&mut self, index: usize, bytes: &[u8]) {
        let capture = self.streams.get_mut(index).and_then(|stream| stream.capture.as_mut());
        let parts = capture.map(|capture| capture.read(bytes));
        let Some(parts) = parts else {
            self.route_output(index, bytes);
            return self.notify_listeners(index, bytes);
        };
        for part in parts {
            match part {
                Part::Output(bytes) => {
                    self.route_output(index, &bytes);
                    self.notify_listeners(index, &bytes);
                }
                Part::Captured(bytes) => self.notify_listeners(index, &bytes),
                Part::Communication(bytes) => {
                    if let (Some(plan), Some(listeners)) = (self.plan.streams.get(index), &mut self.listeners)
                    {
                        listeners.output(plan.process, plan.channel, &bytes, true);
                    }
                }
            }
        }
    }

    /// Tells the listeners what a process has written, if they want to know it.
    fn notify_listeners(&mut self, index: usize, bytes: &[u8]) {
        if let (Some(plan), Some(listeners)) = (self.plan.streams.get(index), &mut self.listeners)
            && plan.has_log_events
        {
            listeners.output(plan.process, plan.channel, bytes, false);
        }
    }

    /// Passes on the bytes that the capture mode holds back. The process has ended, so no more bytes follow.
    fn write_held_by_capture(&mut self, index: usize) {
        let capture = self.streams.get_mut(index).and_then(|stream| stream.capture.as_mut());
        if let Some(held) = capture.map(|capture| capture.finish()) {
            self.route_output(index, &held);
        }
    }

    /// Writes bytes to the log file of the stream. Adds them to the lines that wait for the outlet if there is no log
    /// file, if the log file cannot be opened, or if `prints_like_supervisor_stdout` is set.
    fn route_output(&mut self, index: usize, bytes: &[u8]) {
        let file = self.plan.streams.get(index).and_then(|plan| plan.file);
        if let Some(file) = file.and_then(|file| self.files.get_mut(file)) {
            let mut troubles = Vec::new();
            let file_is_open =
                file.write(bytes, sys::monotonic_nanos(), &mut |trouble| troubles.push(trouble));
            let path = file.path();
            for trouble in troubles {
                self.log_line(Level::Warn, &trouble.log_text(path));
            }
            if file_is_open
                && !self.plan.streams.get(index).is_some_and(|plan| plan.prints_like_supervisor_stdout)
            {
                return;
            }
        }
        let has_outlet = self.plan.streams.get(index).is_some_and(|plan| plan.outlet.is_some());
        if let Some(stream) = self.streams.get_mut(index).filter(|_| has_outlet) {
            stream.push(bytes);
            self.plan.inside_line_flags.set_inside_line(index, stream.is_inside_line());
        }
    }

    /// Writes the lines of a stream to its outlet. With `include_unfinished`, an unfinished line counts as a line.
    /// Returns false if the outlet has no room for all lines.
    fn write_lines(&mut self, index: usize, include_unfinished: bool) -> bool {
        let (Some(plan), Some(stream)) = (self.plan.streams.get(index), self.streams.get_mut(index)) else {
            return true;
        };
        if stream.length() == 0 {
            return true;
        }
        let number = plan.outlet.map(|outlet| outlet_index(outlet, &self.outlets));
        let Some(outlet) = number.and_then(|number| self.outlets.get_mut(number)) else { return true };
        let format =
            if plan.prints_like_supervisor_stdout { LineFormat::NameAndChannel } else { self.plan.format };
        let in_colour = outlet.is_terminal && self.plan.may_colour;
        let unfinished_line_rule = match (include_unfinished, outlet.is_terminal, format) {
            (true, _, _) => UnfinishedLine::CountsAsLine,
            (false, true, LineFormat::Plain | LineFormat::Prefix { .. }) => UnfinishedLine::ShowsProgress,
            (false, ..) => UnfinishedLine::AwaitsNewline,
        };
        let log_formatter = &mut self.line_formatter;
        let is_written = write_to(outlet, stream, unfinished_line_rule, |lines, piece| {
            line_format::append(lines, format, in_colour, plan, log_formatter, piece)
        });
        self.plan.inside_line_flags.set_inside_line(index, stream.is_inside_line());
        if is_written {
            self.report_lost_lines();
        }
        is_written
    }

    /// Stops reading a stream until its outlet has room.
    fn pause_stream(&mut self, index: usize) {
        let Some(plan) = self.plan.streams.get(index) else { return };
        let Some(outlet) = plan.outlet else { return };
        self.poller.remove(&plan.pipe);
        let number = outlet_index(outlet, &self.outlets);
        if let Some(outlet) = self.outlets.get_mut(number)
            && !outlet.waiting.contains(&index)
        {
            outlet.waiting.push(index);
        }
        self.watch_outlet(number);
    }

    /// Wakes the relay when an outlet has room.
    fn watch_outlet(&mut self, number: usize) {
        let Some(outlet) = self.outlets.get(number) else { return };
        let watched = self.poller.watch_writable(outlet.stream(), FIRST_OUTLET_TAG + number as u64);
        // epoll_ctl(2) returns EPERM for a regular file. A write to a regular file never returns EAGAIN.
        self.watch_failed |= watched.is_err_and(|errno| errno != Errno::EPERM);
    }

    /// Writes the lines that wait in an outlet. If the outlet then has room for more, reads the streams that have
    /// waited for this room.
    fn continue_outlet(&mut self, number: usize) {
        let Some(outlet) = self.outlets.get_mut(number) else { return };
        outlet.write();
        if !outlet.accepts_lines() {
            return self.watch_outlet(number);
        }
        self.poller.remove(outlet.stream());
        let waiting = mem::take(&mut outlet.waiting);
        self.relay_log();
        for index in waiting {
            self.continue_stream(index);
        }
    }

    /// Continues to read a stream that was not read while its outlet had no room.
    fn continue_stream(&mut self, index: usize) {
        let Some(plan) = self.plan.streams.get(index) else { return };
        if self.streams.get(index).is_some_and(|stream| !stream.is_closed) {
            self.watch_failed |= self.poller.add(&plan.pipe, index as u64).is_err();
            return self.relay_stream(index);
        }
        // The stream is at end of file, and only its last lines are left.
        if !self.write_lines(index, true) {
            self.pause_stream(index);
        }
    }

    /// Reads rsup's own log lines and writes them to stderr.
    fn relay_log(&mut self) -> Read {
        if !self.write_log() {
            return Read::Some;
        }
        let Some(log) = self.plan.log.as_ref().filter(|_| !self.log_input_has_ended) else {
            return Read::Nothing;
        };
        let log_index = self.plan.streams.len();
        let was_inside_line = self.log.is_inside_line();
        self.plan.inside_line_flags.set_inside_line(log_index, true);
        let mut buffer = mem::take(&mut self.buffer);
        let read = sys::read_pipe(log, &mut buffer);
        let read = match read {
            Ok(count) if count > 0 => {
                self.log.push(buffer.get(..count).unwrap_or_default());
                self.plan.inside_line_flags.set_inside_line(log_index, self.log.is_inside_line());
                Read::Some
            }
            Ok(_) => {
                self.log_input_has_ended = true;
                self.poller.remove(log);
                Read::Nothing
            }
            Err(_) => {
                self.plan.inside_line_flags.set_inside_line(log_index, was_inside_line);
                Read::Nothing
            }
        };
        self.buffer = buffer;
        self.write_log();
        read
    }

    /// Writes the waiting log lines. Returns false if stderr has no room for all of them.
    fn write_log(&mut self) -> bool {
        let number = outlet_index(Channel::Stderr, &self.outlets);
        let Some(outlet) = self.outlets.get_mut(number) else { return true };
        let is_written = write_to(outlet, &mut self.log, UnfinishedLine::AwaitsNewline, |lines, piece| {
            lines.extend(piece.text);
            lines.push(b'\n');
            piece.text.len()
        });
        if !is_written {
            self.watch_outlet(number);
        }
        let waited = mem::replace(&mut self.log_awaits_room, !is_written);
        if let Some(log) =
            self.plan.log.as_ref().filter(|_| waited == is_written && !self.log_input_has_ended)
        {
            if is_written {
                self.watch_failed |= self.poller.add(log, LOG_TAG).is_err();
            } else {
                self.poller.remove(log);
            }
        }
        is_written
    }

    /// Notes that a stream is at end of file.
    fn mark_closed(&mut self, index: usize) {
        if let (Some(plan), Some(stream)) = (self.plan.streams.get(index), self.streams.get_mut(index)) {
            stream.is_closed = true;
            self.open_streams = self.open_streams.saturating_sub(1);
            self.poller.remove(&plan.pipe);
        }
    }

    /// Sets the time at which the unfinished line of a stream is to be written. If the stream has no unfinished line,
    /// sets no time.
    fn schedule_flush(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.flush_at = (stream.length() > 0).then(|| sys::monotonic_nanos() + FLUSH_AFTER);
        if let Some(at) = stream.flush_at.filter(|_| !stream.is_queued_for_flush) {
            stream.is_queued_for_flush = true;
            self.flush_queue.push_back((at, index));
        }
    }

    /// Writes the unfinished lines whose time has come.
    fn flush_due_lines(&mut self) {
        while let Some((at, index)) = self.flush_queue.front().copied() {
            let now = sys::monotonic_nanos();
            if at > now {
                return;
            }
            self.flush_queue.pop_front();
            let Some(stream) = self.streams.get_mut(index) else { continue };
            stream.is_queued_for_flush = false;
            match stream.flush_at {
                // The stream was read again after it was queued, so its unfinished line is written at a later time.
                Some(later) if later > now => {
                    stream.is_queued_for_flush = true;
                    self.flush_queue.push_back((later, index));
                }
                Some(_) => {
                    stream.flush_at = None;
                    self.write_unfinished_line(index);
                }
                None => {}
            }
        }
    }

    /// Writes the unfinished line of a stream, unless the pipe contains more of it.
    fn write_unfinished_line(&mut self, index: usize) {
        let is_open = self.streams.get(index).is_some_and(|stream| !stream.is_closed);
        if is_open && self.has_room(index) && self.read(index) == Read::Some {
            if !self.write_lines(index, false) {
                return self.pause_stream(index);
            }
            return self.schedule_flush(index);
        }
        if !self.write_lines(index, true) {
            self.pause_stream(index);
        }
    }

    fn report_lost_lines(&mut self) {
        let lost: u64 = self.outlets.iter_mut().map(Outlet::take_lost).sum();
        if lost > 0 {
            self.log_line(Level::Warn, &format!("{lost} lines of output were lost"));
        }
    }

    /// Logs a line of the relay's own.
    fn log_line(&mut self, level: Level, text: &str) {
        if self.plan.threshold.is_some_and(|threshold| level <= threshold)
            && self.log.length() < MAX_PENDING_LOG_BYTES
        {
            let mut line = Vec::new();
            self.line_formatter.append(&mut line, level, &text);
            self.log.insert_lines(&line);
            self.write_log();
        }
    }
}

/// The index of the outlet for one of rsup's own streams. If both are the same, there is only one outlet.
fn outlet_index(channel: Channel, outlets: &[Outlet<'_>]) -> usize {
    match channel {
        Channel::Stdout => 0,
        Channel::Stderr => outlets.len().saturating_sub(1),
    }
}

/// Writes the lines of a stream to an outlet. `append` adds a piece of a line to the lines and returns how many bytes
/// of the piece it has added. Returns false if the outlet has no room for all lines.
fn write_to(
    outlet: &mut Outlet<'_>,
    stream: &mut Stream,
    unfinished_line_rule: UnfinishedLine,
    mut append: impl FnMut(&mut Vec<u8>, line_format::Piece<'_>) -> usize,
) -> bool {
    while outlet.accepts_lines() {
        stream.take_lines(unfinished_line_rule, |piece| {
            let before = outlet.lines.len();
            let taken_length = append(&mut outlet.lines, piece);
            if before > 0 && outlet.lines.len() > MAX_LINE {
                outlet.lines.truncate(before);
                return None;
            }
            Some(taken_length)
        });
        if outlet.lines.is_empty() {
            return true;
        }
        outlet.send();
    }
    false
}
