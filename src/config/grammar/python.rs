//! Python's functions on single values: `str.isspace`, `str.strip`, `int`, `repr` and `ascii`.

/// The code point of the digit zero in each of the more common scripts; [`digit`] adds the ASCII zero. The digits one
/// to nine follow each zero in Unicode. Python also reads the digits of some rare scripts, which rsup refuses.
const ZEROS: [u32; 24] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6,
    0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0xA620, 0xA8D0, 0xAA50, 0xFF10,
];

/// `str.isspace`: Unicode's white space and the four ASCII separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip`.
pub(crate) fn strip(text: &str) -> &str {
    // Fast path for text that begins and ends with a visible ASCII character.
    match text.as_bytes() {
        [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim_matches(is_space),
    }
}

/// `str.rstrip`.
pub(crate) fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `int(text, radix)` for radix 10 and 8. The text may have white space around the number, a sign, `_` between digits,
/// and for radix 8 the prefix `0o`. Python's integers have no limit. Here a number above `i64::MAX` becomes `i64::MAX`,
/// and a number below `-i64::MAX` becomes `-i64::MAX`, because no key needs a larger one.
pub(crate) fn saturating_int(text: &str, radix: u8) -> Option<i64> {
    // For ASCII text, int() strips only the white space of C's isspace().
    let is_stripped = |c: char| is_space(c) && !(text.is_ascii() && ('\u{1c}'..='\u{1f}').contains(&c));
    let body = text.trim_matches(is_stripped);
    let (negative, digits) = match body.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, body.strip_prefix('+').unwrap_or(body)),
    };
    let digits = if radix == 8 { without_octal_prefix(digits) } else { digits };
    let mut value = 0_i64;
    // `digits` must begin with a digit, and a digit must follow each `_`.
    let mut digit_expected = true;
    for c in digits.chars() {
        if c == '_' && !digit_expected {
            digit_expected = true;
            continue;
        }
        let digit = digit(c).filter(|digit| *digit < radix)?;
        value = value.saturating_mul(radix.into()).saturating_add(digit.into());
        digit_expected = false;
    }
    (!digit_expected).then(|| if negative { value.saturating_neg() } else { value })
}

fn without_octal_prefix(digits: &str) -> &str {
    let stripped = digits.strip_prefix("0o").or_else(|| digits.strip_prefix("0O"));
    stripped.map_or(digits, |digits| digits.strip_prefix('_').unwrap_or(digits))
}

fn digit(c: char) -> Option<u8> {
    let code = u32::from(c);
    let zeros = ZEROS.iter().copied().chain([0x30]);
    zeros.filter_map(|zero| code.checked_sub(zero)).find(|digit| *digit < 10)?.try_into().ok()
}

/// `repr(text)`: a Python string literal, as in supervisord's messages.
pub fn repr(text: &str) -> String {
    quote(text, |c| c.is_ascii() || is_printable(c))
}

/// `ascii(text)`: like [`repr`], with all characters beyond ASCII escaped.
pub(crate) fn ascii(text: &str) -> String {
    quote(text, |c| c.is_ascii())
}

fn quote(text: &str, shown: impl Fn(char) -> bool) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => out.extend(['\\', c]),
            _ if shown(c) && !c.is_ascii_control() => out.push(c),
            _ => push_escape(&mut out, c),
        }
    }
    out.push(quote);
    out
}

/// Escapes a line feed as `\n` and every other control character as `\xHH`, so that the text fits in one line. Tabs are
/// not escaped.
pub(crate) fn escape_control_chars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            _ if c.is_control() && c != '\t' => push_escape(&mut out, c),
            _ => out.push(c),
        }
    }
    out
}

fn push_escape(out: &mut String, c: char) {
    let code = u32::from(c);
    out.push_str(&match code {
        0..=0xFF => format!("\\x{code:02x}"),
        0x100..=0xFFFF => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    });
}

/// An approximation of `str.isprintable` for characters beyond ASCII, which is sufficient for a message. Returns false
/// for control and white-space characters, and for the common format and private-use characters.
fn is_printable(c: char) -> bool {
    let invisible = matches!(u32::from(c),
        0xAD | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xE000..=0xF8FF | 0xFEFF | 0xFFF0..=0xFFFB);
    !(c.is_control() || c.is_whitespace() || invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_with_pythons_int() {
        let table = [
            ("1", Some(1)),
            (" +12 ", Some(12)),
            ("-3", Some(-3)),
            ("1_000", Some(1000)),
            ("007", Some(7)),
            ("٣", Some(3)),
            ("99999999999999999999", Some(i64::MAX)),
            ("", None),
            ("-", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1.5", None),
            ("0x10", None),
            ("1 0", None),
            ("1\u{1f}", None),
            ("\u{1f}٣", Some(3)),
            ("\u{c}1\u{b}", Some(1)),
            ("--1", None),
        ];
        for (text, want) in table {
            assert_eq!(saturating_int(text, 10), want, "{text:?}");
        }
        let octal = [("022", Some(18)), ("0o22", Some(18)), ("0O_7", Some(7)), ("8", None), ("0o", None)];
        for (text, want) in octal {
            assert_eq!(saturating_int(text, 8), want, "{text:?}");
        }
    }

    #[test]
    fn literals_are_those_of_pythons_repr_and_ascii() {
        let table = [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("a\\b\n\t\r", "'a\\\\b\\n\\t\\r'"),
            ("\u{1}é\u{feff}", "'\\x01é\\ufeff'"),
            ("\u{85}", "'\\x85'"),
        ];
        for (text, want) in table {
            assert_eq!(repr(text), want);
        }
        assert_eq!(ascii("é€😀"), "'\\xe9\\u20ac\\U0001f600'");
    }
}
