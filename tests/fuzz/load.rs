//! Loads any bytes as a configuration file. Loading must end and must not panic, and an accepted file must be
//! printable.
#![no_main]

use std::cell::LazyCell;
use std::fs;

use libfuzzer_sys::fuzz_target;
use rsup::config::{self, Machine, Overrides};
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    DIRECTORY.with(|directory| {
        let file = directory.path().join("supervisord.conf");
        fs::write(&file, bytes).unwrap();
        let environment = [("HOME".to_owned(), "/root".to_owned())];
        let machine = Machine {
            environment: &environment,
            non_utf8_env_names: &[],
            host: "node",
            list_directory: &rsup::sys::list_directory,
            check_user: &|_| Ok(()),
            try_step: None,
        };
        let loaded = config::load(&file, &Overrides::default(), &machine);
        let report = loaded.report.to_string();
        match loaded.config {
            Some(config) => assert!(config.to_json().ends_with("}\n")),
            None => assert!(loaded.report.has_errors() && !report.is_empty()),
        }
    });
});
