//! The processor time for one line that is written while nothing else happens, as most lines of a log are.

use super::carrier::Carrier;
use super::writers::{self, Place, Processes};
use crate::reap::processor_time;
use crate::table::{self, short};

const LINES: usize = 1_000;

pub(super) fn measure() {
    let carriers = Carrier::installed();
    let mut running: Vec<_> = carriers
        .iter()
        .map(|carrier| {
            let mut place = Place::new();
            let mut processes = Processes::new();
            let pid = carrier.start(&["answer"], &mut place, &mut processes);
            let length = place.length_of_logs();
            (pid, processor_time(pid), length, place, processes)
        })
        .collect();
    for _ in 0..LINES {
        for (pid, _, length, place, _) in &mut running {
            place.go(1);
            writers::wait_until("the line is in the log file", || place.length_of_logs() > *length);
            writers::wait_until_asleep(*pid);
            *length = place.length_of_logs();
        }
    }
    let rows = carriers.iter().zip(&running).map(|(carrier, (pid, before, ..))| {
        vec![carrier.to_string(), short((processor_time(*pid) - before) / LINES as f64)]
    });
    let columns = ["µs".to_owned()];
    table::print("Output: CPU time for one line that is written alone", &columns, &rows.collect::<Vec<_>>());
}
