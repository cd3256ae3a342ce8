//! What happens between a program's write and the file or pipe that gets its output: throughput, latency, and the memory
//! and the wake-ups of the process in between.

mod latency;
mod memory;
mod throughput;
mod writers;

pub(crate) fn measure() {
    throughput::measure();
    latency::measure();
    memory::measure();
}
