//! What happens between a program's write and the file or pipe that gets its output: throughput, CPU time, latency,
//! and the memory and the wake-ups of the process in between.

mod alone;
mod carrier;
mod latency;
mod memory;
mod throughput;
mod writers;

pub(crate) fn measure() {
    throughput::measure();
    alone::measure();
    latency::measure();
    memory::measure();
}
