//! Reads any bytes as requests and as lines of a status board. Reading must not panic, and a request that follows any
//! bytes must be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rsup::control::board::{Header, Record};
use rsup::control::request::{Request, RequestParser};

const RUN: u64 = 1;

fuzz_target!(|bytes: &[u8]| {
    let mut requests = RequestParser::new(RUN);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    requests.read(first, |_| ());
    requests.read(second, |_| ());
    let mut last = None;
    requests.read(Request::Signal(3, 15).render(RUN).as_bytes(), |request| last = request);
    assert_eq!(last, Some(Request::Signal(3, 15)));

    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let _ = Header::parse(line);
        if let Ok(record) = Record::parse(line) {
            let mut rendered = String::new();
            record.render(7, 8192, &mut rendered);
            assert_eq!(rendered.len(), 8192);
        }
    }
});
