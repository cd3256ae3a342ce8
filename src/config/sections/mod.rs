//! One file for each kind of section, and the files that several of them use.

pub(crate) mod assemble;
pub(crate) mod eventlistener;
pub(crate) mod fcgi_socket;
pub(crate) mod group;
pub(crate) mod ignored_sections;
pub(crate) mod known_keys;
pub(crate) mod ordered_start;
pub(crate) mod program;
pub(crate) mod section_reader;
pub(crate) mod supervisord;
#[cfg(test)]
mod tests;
pub mod value;
pub(crate) mod wait_graph;
