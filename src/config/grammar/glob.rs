//! How Python matches file names, and the bits of `os.path` around it, for `[include] files`. Text only: `load.rs`
//! looks at the directories.

/// `os.path.join`: an absolute path stands for itself.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') || directory.is_empty() {
        return path.to_owned();
    }
    let slash = if directory.ends_with('/') { "" } else { "/" };
    format!("{directory}{slash}{path}")
}

/// `os.path.normpath` of an absolute path: by the text alone.
pub(crate) fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let _parent = parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a pattern has wildcards.
pub(crate) fn is_magic(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// `fnmatch`: `*`, `?`, `[…]`, `[!…]`; a backslash is itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when the text does not fit: behind the last star, one character further.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            retry = Some((rest, name));
            pattern = rest;
        } else if pattern.is_empty() && name.is_empty() {
            return true;
        } else if let Some((rest, after)) = one(pattern, name) {
            (pattern, name) = (rest, after);
        } else {
            let Some((rest, from)) = retry else { return false };
            let mut later = from.chars();
            if later.next().is_none() {
                return false;
            }
            retry = Some((rest, later.as_str()));
            (pattern, name) = (rest, later.as_str());
        }
    }
}

/// Matches one character; what is left of both then.
fn one<'a>(pattern: &'a str, name: &'a str) -> Option<(&'a str, &'a str)> {
    let mut names = name.chars();
    let c = names.next()?;
    let mut parts = pattern.chars();
    let fits = match parts.next()? {
        '?' => return Some((parts.as_str(), names.as_str())),
        '[' => match class(parts.as_str()) {
            Some((set, rest)) => return in_class(set, c).then_some((rest, names.as_str())),
            None => c == '[',
        },
        literal => c == literal,
    };
    fits.then_some((parts.as_str(), names.as_str()))
}

/// Splits behind a `[`: the set and what follows its `]`; a `]` that comes first belongs to the set.
fn class(text: &str) -> Option<(&str, &str)> {
    let start = text.strip_prefix('!').unwrap_or(text);
    let skip = text.len().saturating_sub(start.len()).saturating_add(usize::from(start.starts_with(']')));
    let end = text.get(skip..)?.find(']')?.saturating_add(skip);
    Some((text.get(..end)?, text.get(end.saturating_add(1)..)?))
}

fn in_class(set: &str, c: char) -> bool {
    let (negated, set) = set.strip_prefix('!').map_or((false, set), |set| (true, set));
    let mut chars = set.chars();
    let mut found = false;
    while let Some(low) = chars.next() {
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                found |= (low..=high).contains(&c);
                chars = ahead;
            }
            _ => found |= low == c,
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_fnmatch() {
        let table = [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf~", false),
            ("?.conf", "é.conf", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "ac", false),
            ("[ab]x", "bx", true),
            ("[!ab]x", "bx", false),
            ("[a-c]", "b", true),
            ("[]x]", "]", true),
            ("[!]]", "a", true),
            ("[a", "[a", true),
            ("[-a]", "-", true),
            ("**", "x", true),
            ("\\*", "\\x", true),
            ("", "", true),
        ];
        for (pattern, name, want) in table {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(&"*a".repeat(30), &"a".repeat(29)));
        assert!(!matches(&format!("{}b", "a*".repeat(200)), &"a".repeat(10_000)));
    }

    #[test]
    fn paths_are_joined_and_made_normal() {
        assert_eq!(join("/etc", "conf.d/*.conf"), "/etc/conf.d/*.conf");
        assert_eq!(join("/etc", "/x"), "/x");
        assert_eq!(normal("/a/./b/../c//d"), "/a/c/d");
        assert_eq!(normal("/../.."), "/");
    }
}
