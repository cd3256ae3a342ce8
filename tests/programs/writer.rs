//! The program whose output the benchmarks and the soak test measure. `writer DIRECTORY COMMAND…` uses two FIFOs of a
//! directory: it does something when a byte arrives in `go`, and it appends records to `records`. A record is the
//! nanoseconds of CLOCK_MONOTONIC, in eight bytes. The first record says that the program is ready.
//!
//! `fill BLOCKS STEPS blocks|lines` writes BLOCKS blocks to stdout as fast as possible, in steps of equal length. Each
//! step waits for one byte, and has one record at its beginning and one at its end. With `lines`, each line is a write of
//! its own. `answer` writes one line for each byte. After the last step, the program waits for a signal that ends it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// The length of a block. tests/output_soak.rs knows this number.
const BLOCK: usize = 64 * 1024;
/// The length of a line.
const LINE: usize = 100;
/// The first lines of a block are one byte longer, so that the block has exactly its length.
const LONGER_LINES: usize = BLOCK % LINE;

#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Time) -> i32;
}

fn now() -> u64 {
    const MONOTONIC: i32 = 1;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(MONOTONIC, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let directory = Path::new(&words[1]);
    let mut records = File::options().write(true).open(directory.join("records")).expect("a FIFO");
    let mut record = || records.write_all(&now().to_ne_bytes()).expect("a reader of the records");
    // The descriptor is open for writing too, so that the FIFO has no end of file.
    let go = File::options().read(true).write(true).open(directory.join("go")).expect("a FIFO");
    // std's own stdout would search each block for its last newline.
    let stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor"));
    record();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    match words[2].as_str() {
        "fill" => fill(stdout, go, number(3), number(4), words[5] == "lines", record),
        "answer" => answer(stdout, go),
        word => panic!("{word}: fill or answer"),
    }
    loop {
        std::thread::park();
    }
}

fn fill(mut stdout: File, mut go: File, blocks: u64, steps: u64, by_line: bool, mut record: impl FnMut()) {
    let mut block = block();
    for step in 0..steps {
        go.read_exact(&mut [0]).expect("a byte");
        record();
        for number in blocks * step / steps..blocks * (step + 1) / steps {
            // The number of the block makes each block different.
            write!(&mut block[..20], "{number:020}").expect("room for the number");
            let mut write = |bytes: &[u8]| stdout.write_all(bytes).expect("a reader");
            if by_line {
                let (longer, others) = block.split_at(LONGER_LINES * (LINE + 1));
                longer.chunks(LINE + 1).chain(others.chunks(LINE)).for_each(write);
            } else {
                write(&block);
            }
        }
        record();
    }
}

/// The lines of each block.
fn block() -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    for line in 0..BLOCK / LINE {
        let length = LINE - 1 + usize::from(line < LONGER_LINES);
        let text = format!("{:020} line {line} of the block; the rest of the line is filled with ", 0);
        block.extend(text.bytes().chain(std::iter::repeat(b'.')).take(length));
        block.push(b'\n');
    }
    assert_eq!(block.len(), BLOCK);
    block
}

/// Each line begins with the time at which it was written, in nanoseconds of CLOCK_MONOTONIC.
fn answer(mut stdout: File, mut go: File) {
    while go.read_exact(&mut [0]).is_ok() {
        let line = format!("at={} a line of about a hundred bytes, as a program writes it for one request\n", now());
        stdout.write_all(line.as_bytes()).expect("a reader");
    }
}
