//! TEMPORARY: prints configurations, for comparison.
#![allow(
    clippy::all,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "temporary"
)]
use rsup::cli::{self, Mode};
use rsup::config::{self, Inputs};
use std::path::Path;
fn main() {
    let argv: Vec<_> = std::env::args_os().collect();
    let cli = match cli::parse(&argv) {
        Ok(cli) => cli,
        Err(exit) => {
            if exit.code == 0 {
                print!("{}", exit.text)
            } else {
                eprint!("{}", exit.text)
            };
            std::process::exit(exit.code.into())
        }
    };
    let environment: Vec<_> = std::env::vars_os()
        .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
        .collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let inputs = Inputs { environment: &environment, host: host.trim(), check_user: &|_| Ok(()) };
    if cli.mode == Mode::EchoConfig {
        print!("{}", config::SAMPLE);
        return;
    }
    let file = match config::find(cli.file.as_deref(), Path::new(&argv[0])) {
        Ok(f) => f,
        Err(e) => {
            eprintln!("Error: {e}");
            std::process::exit(2)
        }
    };
    let loaded = config::load(&file, &cli.overrides, &inputs);
    if cli.mode == Mode::Check {
        eprint!("{}", loaded.report);
        for n in &loaded.notices {
            eprintln!("{} {}", n.level.tag(), n.text);
        }
    }
    match loaded.config {
        Some(config) if cli.mode == Mode::PrintConfig => print!("{}", config.to_json()),
        Some(_) => {}
        None => {
            if cli.mode != Mode::Check {
                eprint!("{}", loaded.report);
            }
            std::process::exit(2)
        }
    }
}
