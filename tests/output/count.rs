//! Programs that write consecutive numbers (see count.py), and the check which bytes of them have arrived.

use std::fs;
use std::path::{Path, PathBuf};

use super::shown;
use crate::support::{Rsup, eventually, program};

/// The file `count.py` of a set-up.
pub(super) const COUNT: &str = include_str!("count.py");

/// The size of a record.
const RECORD: usize = 16;

/// A program that writes consecutive numbers to its streams (see count.py). A test may append keys.
pub(super) fn counter(name: &str, words: &str) -> String {
    program(name, &format!("python3 -IS count.py {name} {words}")) + "startsecs=0\n"
}

/// The number of bytes that the program has written to each of its streams, at least.
pub(super) fn written(rsup: &Rsup, name: &str) -> u64 {
    rsup.read(&format!("{name}.count")).parse().unwrap_or_default()
}

/// Waits until the program has written this number of further bytes.
pub(super) fn expect_written(rsup: &Rsup, name: &str, more: u64) {
    let before = written(rsup, name);
    let what = format!("{name} writes {more} bytes after {before}");
    eventually(&what, || (written(rsup, name) >= before + more).then_some(()));
}

/// Makes the programs finish their output, and waits until they have. Returns the number of bytes of each stream.
pub(super) fn finish(rsup: &Rsup, names: &[&str]) -> Vec<u64> {
    rsup.touch("stop");
    let one = |name: &&str| {
        eventually("the program has written everything", || {
            rsup.path(&format!("{name}.done")).exists().then_some(())
        });
        written(rsup, name)
    };
    names.iter().map(one).collect()
}

/// The content of a log file and its backups, oldest first. A number may be missing.
pub(super) fn with_backups(file: &Path) -> Vec<u8> {
    let prefix = format!("{}.", shown(file));
    let entries = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut backups: Vec<(u64, PathBuf)> =
        entries.filter_map(|path| Some((shown(&path).strip_prefix(&prefix)?.parse().ok()?, path))).collect();
    backups.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let mut bytes: Vec<u8> = backups.iter().flat_map(|(_, path)| fs::read(path).unwrap()).collect();
    // A relay that was killed during a rotation may have left no file.
    bytes.extend(fs::read(file).unwrap_or_default());
    bytes
}

/// The byte of the output at a place.
fn byte_at(place: u64) -> u8 {
    let record = RECORD as u64;
    match place % record {
        15 => b'\n',
        digit => {
            b'0' + u8::try_from(place / record / 10u64.pow(14 - u32::try_from(digit).unwrap()) % 10).unwrap()
        }
    }
}

/// The number of a record, if these bytes start with a whole one.
fn number(bytes: &[u8]) -> Option<u64> {
    let (digits, newline) = bytes.get(..RECORD)?.split_at(RECORD - 1);
    let is_record = digits.iter().all(u8::is_ascii_digit) && newline == b"\n";
    is_record.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// What has arrived of the output of a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// The number of bytes that are missing before the last one that has arrived.
    pub(super) lost: u64,
    /// The number of places at which bytes are missing.
    pub(super) gaps: u32,
    /// The place after the last byte.
    pub(super) end: u64,
}

/// Finds out which bytes have arrived.
///
/// # Errors
/// Returns the place of the first byte that is out of order or was never written.
pub(super) fn account(bytes: &[u8]) -> Result<Arrived, String> {
    let mut so_far = Arrived { lost: 0, gaps: 0, end: 0 };
    let mut at = 0;
    while at < bytes.len() {
        if so_far.end.is_multiple_of(RECORD as u64)
            && number(&bytes[at..]) == Some(so_far.end / RECORD as u64)
        {
            at += RECORD;
            so_far.end += RECORD as u64;
        } else if bytes[at] == byte_at(so_far.end) {
            at += 1;
            so_far.end += 1;
        } else {
            let place = place_of(bytes, at).filter(|place| *place > so_far.end).ok_or_else(|| {
                let around = &bytes[at.saturating_sub(20)..bytes.len().min(at + 40)];
                format!("byte {at} is not at {so_far:?} or later: {:?}", around.escape_ascii().to_string())
            })?;
            so_far.lost += place - so_far.end;
            so_far.gaps += 1;
            so_far.end = place;
        }
    }
    Ok(so_far)
}

/// The place of a byte, which the next whole record tells.
fn place_of(bytes: &[u8], at: usize) -> Option<u64> {
    let newline = at + bytes[at..].iter().position(|byte| *byte == b'\n')?;
    let next = number(&bytes[newline + 1..])?;
    (next * RECORD as u64).checked_sub((newline + 1 - at) as u64)
}

#[test]
fn the_account_finds_every_lost_byte() {
    let whole: Vec<u8> = (0..1000).map(byte_at).collect();
    let lost = |ranges: &[std::ops::Range<usize>]| -> Vec<u8> {
        let is_kept = |at: &usize| !ranges.iter().any(|range| range.contains(at));
        (0..1000).filter(is_kept).map(|at| whole[at]).collect()
    };
    assert_eq!(account(&whole), Ok(Arrived { lost: 0, gaps: 0, end: 1000 }));
    assert_eq!(account(&lost(&[100..163, 0..0])), Ok(Arrived { lost: 63, gaps: 1, end: 1000 }));
    assert_eq!(account(&lost(&[0..5, 160..320, 400..401])), Ok(Arrived { lost: 166, gaps: 3, end: 1000 }));
    let twice = [&whole[..320], &whole[300..]].concat();
    assert!(account(&twice).is_err());
    let swapped = [&whole[..160], &whole[320..480], &whole[160..320], &whole[480..]].concat();
    assert!(account(&swapped).is_err());
}
