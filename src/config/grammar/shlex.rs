//! Splits a text into tokens like Python's `shlex.shlex(posix=True)`. supervisord uses this class for `command` (in
//! `shlex.split`) and for `environment` (in `dict_of_key_value_pairs`). The word characters of the two keys differ.
//!
//! supervisord 4.3 reads `environment` with `posix=False`. rsup uses the POSIX rules of supervisord's main branch:
//! quotes are also removed from the middle of a word, and a backslash escapes the next character.

use super::collections::EnvMap;

/// The characters between tokens (`shlex.whitespace`).
const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];
/// The message for a quote without its closing quote.
const NO_CLOSING_QUOTE: &str = "No closing quotation";
/// The message for a backslash at the end of the text.
const NO_ESCAPED_CHARACTER: &str = "No escaped character";

/// `shlex.split(command)`. Every character except white space, quotes and backslashes is a word character, including
/// `#`.
///
/// # Errors
/// Returns the message of Python's `ValueError`.
pub(crate) fn split(command: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    split_tokens(command, &COMMAND, &mut |word| words.push(word.to_owned()))?;
    Ok(words)
}

/// Reads `KEY=VALUE,KEY="VALUE"`, as supervisord's `dict_of_key_value_pairs` does. The tokens are taken in groups of
/// four: key, `=`, value, separator. Any token is accepted as the separator.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all_tokens = Vec::new();
    split_tokens(text, &PAIRS, &mut |token| all_tokens.push(token.to_owned()))?;
    let mut tokens = all_tokens.into_iter();
    let mut pairs = EnvMap::default();
    while let Some(key) = tokens.next() {
        let value = tokens.next().filter(|equals| equals == "=").and_then(|_| tokens.next());
        let value = value.ok_or_else(|| format!("Unexpected end of key/value pairs in value '{text}'"))?;
        pairs.set_owned(key, value);
        let _pair_separator = tokens.next();
    }
    Ok(pairs.into_vec())
}

/// Returns whether the character `c` can be the cause of this error of [`split`] or [`pairs`], if an expansion has
/// inserted `c` into the value.
pub(crate) fn can_cause(error: &str, c: char) -> bool {
    match error {
        NO_CLOSING_QUOTE => matches!(c, '"' | '\'' | '\\'),
        NO_ESCAPED_CHARACTER => c == '\\',
        _ => !is_pair_word_char(c),
    }
}

/// The word characters of `environment`: letters including those of Latin-1, digits and `_` (`shlex.wordchars` in POSIX
/// mode), and the characters that supervisord adds for paths, URLs and options.
fn is_pair_word_char(c: char) -> bool {
    let is_latin1_letter = ('\u{c0}'..='\u{ff}').contains(&c) && !matches!(c, '×' | '÷');
    c.is_ascii_alphanumeric() || is_latin1_letter || "_/.+-():".contains(c)
}

const COMMAND: WordRules = WordRules {
    is_word_char: |_| true,
    is_plain: |byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'\\'),
    comments: false,
};
const PAIRS: WordRules = WordRules {
    is_word_char: is_pair_word_char,
    is_plain: |byte| byte.is_ascii() && is_pair_word_char(char::from(byte)),
    comments: true,
};

struct WordRules {
    is_word_char: fn(char) -> bool,
    /// The bytes that have no special meaning in words or in quotes.
    is_plain: fn(u8) -> bool,
    /// Whether `#` begins a comment.
    comments: bool,
}

/// The state of the tokenizer, which Python keeps in `shlex.state`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LexerState {
    BetweenTokens,
    Word,
    /// Inside quotes. The character opened the quotes, and closes them.
    Quote(char),
    /// After a backslash, inside double quotes or outside quotes.
    Escape {
        is_in_double_quotes: bool,
    },
}

/// The token that is being read.
#[derive(Default)]
struct Token {
    text: String,
    /// Whether a part of the token is in quotes. An empty text is a token only if it is in quotes, as in `""`.
    has_quotes: bool,
}

impl Token {
    fn finish(&mut self, out: &mut dyn FnMut(&str)) {
        if self.has_quotes || !self.text.is_empty() {
            out(&self.text);
        }
        self.text.clear();
        self.has_quotes = false;
    }
}

/// Returns the plain bytes at the start of the text. Most bytes are plain, and copying all of them at once is faster
/// than reading each character.
fn plain_prefix<'a>(text: &'a str, rules: &WordRules) -> &'a str {
    let length = text.bytes().position(|byte| !(rules.is_plain)(byte)).unwrap_or(text.len());
    text.get(..length).unwrap_or("")
}

/// Passes every token of a text to `out`.
fn split_tokens(text: &str, rules: &WordRules, out: &mut dyn FnMut(&str)) -> Result<(), &'static str> {
    let mut token = Token::default();
    let mut state = LexerState::BetweenTokens;
    let mut remaining = text.chars();
    loop {
        let plain = plain_prefix(remaining.as_str(), rules);
        if !plain.is_empty() && !matches!(state, LexerState::Escape { .. }) {
            token.text.push_str(plain);
            remaining = remaining.as_str().get(plain.len()..).unwrap_or("").chars();
            state = if state == LexerState::BetweenTokens { LexerState::Word } else { state };
        }
        let Some(c) = remaining.next() else { break };
        state = match state {
            LexerState::Quote(quote) => read_in_quotes(c, quote, &mut token),
            LexerState::Escape { is_in_double_quotes } => read_escaped(c, is_in_double_quotes, &mut token),
            LexerState::BetweenTokens | LexerState::Word if WHITESPACE.contains(&c) => {
                token.finish(out);
                LexerState::BetweenTokens
            }
            LexerState::BetweenTokens | LexerState::Word if rules.comments && c == '#' => {
                token.finish(out);
                let _comment = remaining.find(|c| *c == '\n');
                LexerState::BetweenTokens
            }
            LexerState::BetweenTokens | LexerState::Word => read_unquoted(c, rules, &mut token, out),
        };
    }
    match state {
        LexerState::Quote(_) => Err(NO_CLOSING_QUOTE),
        LexerState::Escape { .. } => Err(NO_ESCAPED_CHARACTER),
        LexerState::BetweenTokens | LexerState::Word => {
            token.finish(out);
            Ok(())
        }
    }
}

/// Reads a character inside quotes. A backslash escapes only in double quotes; in single quotes it is an ordinary
/// character.
fn read_in_quotes(c: char, quote: char, token: &mut Token) -> LexerState {
    match c {
        _ if c == quote => LexerState::Word,
        '\\' if quote == '"' => LexerState::Escape { is_in_double_quotes: true },
        _ => {
            token.text.push(c);
            LexerState::Quote(quote)
        }
    }
}

/// Reads the character after a backslash. Inside double quotes, the backslash stays in the token unless the character
/// is a double quote or a backslash.
fn read_escaped(c: char, is_in_double_quotes: bool, token: &mut Token) -> LexerState {
    if is_in_double_quotes && !matches!(c, '"' | '\\') {
        token.text.push('\\');
    }
    token.text.push(c);
    if is_in_double_quotes { LexerState::Quote('"') } else { LexerState::Word }
}

fn read_unquoted(c: char, rules: &WordRules, token: &mut Token, out: &mut dyn FnMut(&str)) -> LexerState {
    match c {
        '"' | '\'' => {
            token.has_quotes = true;
            LexerState::Quote(c)
        }
        '\\' => LexerState::Escape { is_in_double_quotes: false },
        _ if (rules.is_word_char)(c) => {
            token.text.push(c);
            LexerState::Word
        }
        _ => {
            token.finish(out);
            out(c.encode_utf8(&mut [0; 4]));
            LexerState::BetweenTokens
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_split_as_with_pythons_shlex_split() {
        let table: [(&str, Result<&[&str], &str>); 15] = [
            ("", Ok(&[])),
            ("a  b\tc\nd", Ok(&["a", "b", "c", "d"])),
            ("a 'b c' \"d e\"", Ok(&["a", "b c", "d e"])),
            ("a''b \"\"", Ok(&["ab", ""])),
            ("a\\ b", Ok(&["a b"])),
            ("a \\\nb", Ok(&["a", "\nb"])),
            ("\"a\\\"b\\\\c\\d\"", Ok(&["a\"b\\c\\d"])),
            ("'a\\b'", Ok(&["a\\b"])),
            ("a#b #c", Ok(&["a#b", "#c"])),
            ("a=$X;b&&c|d", Ok(&["a=$X;b&&c|d"])),
            ("\"a", Err(NO_CLOSING_QUOTE)),
            ("a'b", Err(NO_CLOSING_QUOTE)),
            ("a\\", Err(NO_ESCAPED_CHARACTER)),
            ("\"a\\", Err(NO_ESCAPED_CHARACTER)),
            ("a \0b c\0", Ok(&["a", "\0b", "c\0"])),
        ];
        for (text, want) in table {
            let got = split(text);
            assert_eq!(
                got,
                want.map(|words| words.iter().map(|word| (*word).to_owned()).collect()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn environments_are_read_as_in_supervisord() {
        const E1: &str = "Unexpected end of key/value pairs in value";
        let table = [
            ("A=1,B=2", "A:1 B:2"),
            ("A=1, B=2", "A:1 B:2"),
            ("A=1;B=2", "A:1 B:2"),
            ("A=1,B=2,", "A:1 B:2"),
            ("A=1 B=2", E1),
            ("A=1,,B=2", E1),
            (",A=1", E1),
            ("A=", E1),
            ("A", E1),
            ("=1", E1),
            ("A=1=2", E1),
            ("A=,B=2", E1),
            ("A=\"a,b\"", "A:a,b"),
            ("A='a,b'", "A:a,b"),
            ("A=\"\"", "A:"),
            ("A=a b", "A:a"),
            ("A=a#b", "A:a"),
            ("A=a*", "A:a"),
            ("A=$HOME", "A:$"),
            ("A=~/x", "A:~"),
            ("A=!x", "A:!"),
            ("A=a@b", E1),
            ("A=a%%b", E1),
            ("A=a?b", E1),
            ("A=a&b", E1),
            ("A=a,b", E1),
            ("A=[x]", E1),
            ("A=http://x/y", "A:http://x/y"),
            ("A=/usr/bin:/bin", "A:/usr/bin:/bin"),
            ("A=-Xmx1g", "A:-Xmx1g"),
            ("A=(a)", "A:(a)"),
            ("A=a+b", "A:a+b"),
            ("A=\"a\"b", "A:ab"),
            ("A=a\"b\"", "A:ab"),
            ("A=\"it\\\"s\"", "A:it\"s"),
            ("A=\"a\\\\b\"", "A:a\\b"),
            ("A=a\\,b", "A:a,b"),
            ("A=C:\\x", "A:C:x"),
            ("A=\"'x'\"", "A:'x'"),
            ("A='\"x\"'", "A:\"x\""),
            ("A='{\"a\":1}'", "A:{\"a\":1}"),
            ("A=\"{\\\"a\\\":1}\"", "A:{\"a\":1}"),
            ("A=a'b", NO_CLOSING_QUOTE),
            ("A=\"x", NO_CLOSING_QUOTE),
            ("A=\"x\" B=\"y\"", E1),
            ("A=\"x\"B=\"y\"", E1),
            ("A=\"x\"\nB=\"y\"", E1),
            ("A=1,\n  B=2", "A:1 B:2"),
            ("A=\"x\ny\"", "A:x\ny"),
            ("\"A\"=1", "A:1"),
            ("A=1,A=2", "A:2"),
            ("", ""),
            ("A=é", "A:é"),
            ("A=€", "A:€"),
        ];
        for (text, want) in table {
            let got = match pairs(text) {
                Ok(pairs) => pairs.iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>().join(" "),
                Err(error) => error.strip_suffix(&format!(" '{text}'")).unwrap_or(&error).to_owned(),
            };
            assert_eq!(got, want, "{text:?}");
        }
    }
}
