//! The text functions of Python that `[include] files` needs: `fnmatch.fnmatch`, `glob.has_magic`, `os.path.join` and
//! `os.path.normpath`. `load.rs` finds the files that match.

/// `os.path.join`: an absolute `path` replaces the directory.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') || directory.is_empty() {
        return path.to_owned();
    }
    let slash = if directory.ends_with('/') { "" } else { "/" };
    format!("{directory}{slash}{path}")
}

/// `os.path.normpath` of an absolute path: removes `.`, `..` and repeated slashes, and ignores symbolic links.
pub(crate) fn normal(path: &str) -> String {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                let _parent = components.pop();
            }
            _ => components.push(component),
        }
    }
    format!("/{}", components.join("/"))
}

/// `glob.has_magic`: whether a pattern has wildcards.
pub(crate) fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// `fnmatch.fnmatch`, with `*`, `?`, `[…]` and `[!…]`. A backslash is an ordinary character.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern = pattern;
    let mut name = name;
    // The pattern after the last `*`, and the part of the name at which this pattern was tried last. If the pattern
    // does not match there, the `*` takes the first character of this part, and the pattern is tried at the next
    // character.
    let mut last_star: Option<(&str, &str)> = None;
    loop {
        if let Some(after_star) = pattern.strip_prefix('*') {
            last_star = Some((after_star, name));
            pattern = after_star;
        } else if pattern.is_empty() && name.is_empty() {
            return true;
        } else if let Some(remaining) = match_one(pattern, name) {
            (pattern, name) = remaining;
        } else {
            let Some((after_star, tried)) = last_star else { return false };
            let mut chars = tried.chars();
            if chars.next().is_none() {
                return false;
            }
            pattern = after_star;
            name = chars.as_str();
            last_star = Some((pattern, name));
        }
    }
}

/// Matches one character of `name`. Returns the remaining pattern and the remaining name, or `None` if the character
/// does not match.
fn match_one<'a>(pattern: &'a str, name: &'a str) -> Option<(&'a str, &'a str)> {
    let mut name_chars = name.chars();
    let c = name_chars.next()?;
    let mut pattern_chars = pattern.chars();
    let is_match = match pattern_chars.next()? {
        '?' => true,
        '[' => match split_set(pattern_chars.as_str()) {
            Some((set, after_set)) => {
                return is_in_set(set, c).then_some((after_set, name_chars.as_str()));
            }
            // A `[` without a `]` is an ordinary character.
            None => c == '[',
        },
        literal => c == literal,
    };
    is_match.then_some((pattern_chars.as_str(), name_chars.as_str()))
}

/// Splits the text after a `[` into the set and the pattern after the closing `]`. A `]` that is the first character of
/// the set belongs to the set, also after a `!`. Returns `None` if there is no closing `]`.
fn split_set(text: &str) -> Option<(&str, &str)> {
    let start = text.strip_prefix('!').unwrap_or(text);
    let skip = text.len().saturating_sub(start.len()).saturating_add(usize::from(start.starts_with(']')));
    let end = text.get(skip..)?.find(']')?.saturating_add(skip);
    Some((text.get(..end)?, text.get(end.saturating_add(1)..)?))
}

fn is_in_set(set: &str, c: char) -> bool {
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
    fn patterns_with_many_stars_match_in_little_time() {
        assert!(!matches(&"*a".repeat(30), &"a".repeat(29)));
        assert!(!matches(&format!("{}b", "a*".repeat(200)), &"a".repeat(10_000)));
    }

    #[test]
    fn paths_are_joined_and_normalised() {
        assert_eq!(join("/etc", "conf.d/*.conf"), "/etc/conf.d/*.conf");
        assert_eq!(join("/etc", "/x"), "/x");
        assert_eq!(normal("/a/./b/../c//d"), "/a/c/d");
        assert_eq!(normal("/../.."), "/");
    }
}
