//! The reader of rsup's output: a thread that reads a FIFO, and that a test can pause.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{PATIENCE, make_fifo};

/// What a reader does with each line: it adds the line, without its newline, to a value.
type Take<T> = fn(&mut T, &[u8]);

struct State<T> {
    value: T,
    is_paused: bool,
    is_at_end: bool,
    /// The bytes after the last newline.
    rest: Vec<u8>,
}

/// A FIFO and the thread that reads it until its last writer has closed it.
pub(super) struct Reader<T>(Arc<(Mutex<State<T>>, Condvar)>);

impl<T: Default + Send + 'static> Reader<T> {
    /// Makes a FIFO and starts to read it.
    pub(super) fn new(path: &Path, take: Take<T>) -> Self {
        make_fifo(path);
        let state = State { value: T::default(), is_paused: false, is_at_end: false, rest: vec![] };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let of_thread = Arc::clone(&shared);
        let path = path.to_owned();
        thread::spawn(move || {
            // The open waits for the first writer.
            let mut pipe = File::open(path).unwrap();
            let mut bytes = vec![0; 65536];
            let (state, changed) = &*of_thread;
            loop {
                drop(changed.wait_while(state.lock().unwrap(), |state| state.is_paused).unwrap());
                let length = pipe.read(&mut bytes).unwrap();
                let mut state = state.lock().unwrap();
                state.rest.extend_from_slice(&bytes[..length]);
                let rest = std::mem::take(&mut state.rest);
                let mut parts: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
                let last = parts.pop().unwrap_or_default();
                parts.into_iter().for_each(|line| take(&mut state.value, line));
                state.rest = last.to_vec();
                state.is_at_end = length == 0;
                changed.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        Self(shared)
    }

    /// Stops reading. At most one more read takes place.
    pub(super) fn pause(&self) {
        self.0.0.lock().unwrap().is_paused = true;
    }

    /// Reads again.
    pub(super) fn resume(&self) {
        self.0.0.lock().unwrap().is_paused = false;
        self.0.1.notify_all();
    }

    /// Waits until `find` returns a value for what was read. Gives up at the end of the stream and after a time.
    pub(super) fn find_within<F>(&self, time: Duration, find: impl Fn(&T) -> Option<F>) -> Option<F> {
        let deadline = Instant::now() + time;
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match find(&state.value) {
                None if !state.is_at_end && !left.is_zero() => {
                    state = changed.wait_timeout(state, left).unwrap().0;
                }
                found => return found,
            }
        }
    }

    /// Waits until `find` returns a value for what was read.
    #[track_caller]
    pub(super) fn find<F>(&self, what: &str, find: impl Fn(&T) -> Option<F>) -> F {
        self.find_within(PATIENCE, find).unwrap_or_else(|| panic!("{what}: not in the output"))
    }

    /// Waits until every writer has closed the FIFO. Returns what was read. The last line must have a newline.
    #[track_caller]
    pub(super) fn end(&self) -> T {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (mut state, _) = changed.wait_timeout_while(state, PATIENCE, |state| !state.is_at_end).unwrap();
        assert!(state.is_at_end, "the output does not end: a process was left behind");
        assert!(
            state.rest.is_empty(),
            "the last line has no newline: {:?}",
            state.rest.escape_ascii().to_string()
        );
        std::mem::take(&mut state.value)
    }
}

/// A line, and when it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) text: Vec<u8>,
    pub(super) at: SystemTime,
}

impl Arrived {
    /// The line as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// A reader that keeps every line.
pub(super) fn all_lines(path: &Path) -> Reader<Vec<Arrived>> {
    Reader::new(path, |lines, line| lines.push(Arrived { text: line.to_vec(), at: SystemTime::now() }))
}
