//! The size of each init's executables in bytes.

use std::fs;
use std::path::Path;

use crate::init::Init;
use crate::table;
use crate::tools;

pub(crate) fn measure() {
    let bytes = |file: &Path| fs::metadata(file).map_or(0, |file| file.len());
    let row = |init: &Init| {
        let size = match init {
            Init::Bare => bytes(&tools::program()).to_string(),
            Init::Rsup => bytes(&tools::rsup()).to_string(),
            Init::OtherRsup => tools::other_rsup().map_or(0, |file| bytes(&file)).to_string(),
            Init::Supervisord => "Python".to_owned(),
            _ => init
                .commands()
                .iter()
                .filter_map(|name| tools::find(name))
                .map(|file| bytes(&file))
                .sum::<u64>()
                .to_string(),
        };
        vec![init.to_string(), size]
    };
    let rows: Vec<_> = Init::installed().iter().map(row).collect();
    table::print("Size: bytes of the executables, without libraries", &["bytes".to_owned()], &rows);
}
