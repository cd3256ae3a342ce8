//! The parts of supervisord's configuration grammar that come from Python's standard library: lines, sections, `%`
//! expansion, shell words and file patterns.

pub(crate) mod collections;
pub(crate) mod document;
pub(crate) mod expand;
pub(crate) mod glob;
pub(crate) mod lines;
pub(crate) mod printf;
pub(crate) mod python;
pub(crate) mod shlex;
