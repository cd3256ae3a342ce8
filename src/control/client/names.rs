//! The names of processes on the command line and in the output.

use crate::control::board::Record;

/// What a word of the command line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// `x`, which is the process `x` of the group `x`, or `group:name`.
    Process { group: &'a str, name: &'a str },
    /// `group:*` or `group:`, which are all processes of the group.
    Group(&'a str),
}

impl<'a> Name<'a> {
    pub(super) fn parse(word: &'a str) -> Self {
        match word.split_once(':') {
            Some((group, "" | "*")) => Self::Group(group),
            Some((group, name)) => Self::Process { group, name },
            None => Self::Process { group: word, name: word },
        }
    }

    pub(super) fn matches(self, record: &Record<'_>) -> bool {
        match self {
            Self::Process { group, name } => record.group == group && record.name == name,
            Self::Group(group) => record.group == group,
        }
    }
}

/// Returns the name of a process for the output: `x` for the process `x` of the group `x`, otherwise `group:name`.
pub(super) fn shown(group: &str, name: &str) -> String {
    if group == name { name.to_owned() } else { [group, ":", name].concat() }
}

pub(super) fn of(record: &Record<'_>) -> String {
    shown(&record.group, &record.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_colon_separates_the_group() {
        for (word, want) in [
            ("web", Name::Process { group: "web", name: "web" }),
            ("g:web", Name::Process { group: "g", name: "web" }),
            ("g:a:b", Name::Process { group: "g", name: "a:b" }),
            (":x", Name::Process { group: "", name: "x" }),
            ("g:*", Name::Group("g")),
            ("g:", Name::Group("g")),
            ("g:*x", Name::Process { group: "g", name: "*x" }),
        ] {
            assert_eq!(Name::parse(word), want, "{word}");
        }
    }

    #[test]
    fn a_process_with_the_name_of_its_group_is_shown_without_the_group() {
        assert_eq!(shown("web", "web"), "web");
        assert_eq!(shown("g", "web"), "g:web");
    }
}
