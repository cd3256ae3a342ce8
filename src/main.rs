//! TEMPORARY: prints configurations, for comparison.
#![allow(
    clippy::all,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]
use rsup::config::{self, Inputs, Overrides};
use std::path::Path;
fn main() {
    let argv: Vec<String> = std::env::args().collect();
    let environment: Vec<_> = std::env::vars().collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let inputs = Inputs { environment: &environment, host: host.trim(), check_user: &|_| Ok(()) };
    if argv[1] == "--echo-config" {
        print!("{}", config::SAMPLE);
        return;
    }
    let loaded = config::load(Path::new(&argv[3]), &Overrides::default(), &inputs);
    if argv[1] == "--check" {
        eprint!("{}", loaded.report);
        for n in &loaded.notices {
            eprintln!("{} {}", n.level.tag(), n.text);
        }
    }
    match loaded.config {
        Some(config) if argv[1] == "--print-config" => print!("{}", config.to_json()),
        Some(_) => {}
        None => {
            if argv[1] != "--check" {
                eprint!("{}", loaded.report);
            }
            std::process::exit(2)
        }
    }
}
