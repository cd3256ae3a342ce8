//! What supervisord's configuration files take from Python: lines, sections, `%` expansion, shell words, file patterns.

pub(crate) mod document;
pub(crate) mod expand;
pub(crate) mod glob;
pub(crate) mod lines;
pub(crate) mod ordered;
pub(crate) mod printf;
pub(crate) mod python;
pub(crate) mod shlex;
