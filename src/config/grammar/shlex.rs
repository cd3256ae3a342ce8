//! Python's `shlex` in POSIX mode, which splits commands and, with other words, the text of `environment`.

use super::ordered::EnvMap;

/// What separates tokens from each other.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];
/// Unbalanced quotes.
const NO_QUOTE: &str = "No closing quotation";
/// A backslash with nothing behind it.
const NO_ESCAPED: &str = "No escaped character";

/// `shlex.split(command)`: everything but blanks, quotes and backslashes is part of a word; `#` is nothing special.
///
/// # Errors
/// `No closing quotation`, `No escaped character`.
pub(crate) fn split(command: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    tokens(command, &COMMAND, &mut |word| words.push(word.to_owned()))?;
    Ok(words)
}

/// `KEY=VALUE,KEY="VALUE"` as supervisord reads it: tokens in threes, each three followed by a separator that may be
/// any one token. (The POSIX rules of the coming 4.4; 4.3 kept quotes in the middle of words.)
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    tokens(text, &PAIRS, &mut |token| all.push(token.to_owned()))?;
    let mut tokens = all.into_iter();
    let mut pairs = EnvMap::default();
    while let Some(key) = tokens.next() {
        let value = tokens.next().filter(|equals| equals == "=").and_then(|_| tokens.next());
        let value = value.ok_or_else(|| format!("Unexpected end of key/value pairs in value '{text}'"))?;
        pairs.set_owned(key, value);
        let _separator = tokens.next();
    }
    Ok(pairs.into_vec())
}

/// Letters (Latin-1 ones too), digits, and what supervisord adds: paths, URLs and options need no quotes.
fn is_pair_word(c: char) -> bool {
    let latin = ('\u{c0}'..='\u{ff}').contains(&c) && !matches!(c, '×' | '÷');
    c.is_ascii_alphanumeric() || latin || "_/.+-():".contains(c)
}

const COMMAND: WordRules = WordRules {
    is_word: |_| true,
    is_plain: |byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'\\'),
    comments: false,
};
const PAIRS: WordRules = WordRules {
    is_word: is_pair_word,
    is_plain: |byte| byte.is_ascii() && is_pair_word(char::from(byte)),
    comments: true,
};

struct WordRules {
    is_word: fn(char) -> bool,
    /// What means itself, in words and in quotes.
    is_plain: fn(u8) -> bool,
    comments: bool,
}

/// Where the tokenizer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LexerState {
    /// Between tokens.
    Blank,
    /// In a word.
    Word,
    /// Behind this quote.
    Quote(char),
    /// Behind a backslash, outside quotes or in double ones.
    Escape { quoted: bool },
}

/// A token under construction: quotes make it one even when it is empty.
#[derive(Default)]
struct Token {
    text: String,
    quoted: bool,
}

impl Token {
    fn finish(&mut self, out: &mut dyn FnMut(&str)) {
        if self.quoted || !self.text.is_empty() {
            out(&self.text);
        }
        self.text.clear();
        self.quoted = false;
    }
}

/// How the text goes on with what means itself, as most of it does: it is taken in one piece.
fn plain<'a>(text: &'a str, rules: &WordRules) -> &'a str {
    let length = text.bytes().position(|byte| !(rules.is_plain)(byte)).unwrap_or(text.len());
    text.get(..length).unwrap_or("")
}

/// Hands out the tokens of a text.
fn tokens(text: &str, rules: &WordRules, out: &mut dyn FnMut(&str)) -> Result<(), &'static str> {
    let mut token = Token::default();
    let mut state = LexerState::Blank;
    let mut rest = text.chars();
    loop {
        let plain = plain(rest.as_str(), rules);
        if !plain.is_empty() && !matches!(state, LexerState::Escape { .. }) {
            token.text.push_str(plain);
            rest = rest.as_str().get(plain.len()..).unwrap_or("").chars();
            state = if state == LexerState::Blank { LexerState::Word } else { state };
        }
        let Some(c) = rest.next() else { break };
        state = match state {
            LexerState::Quote(quote) => in_quotes(c, quote, &mut token),
            LexerState::Escape { quoted } => escaped(c, quoted, &mut token),
            LexerState::Blank | LexerState::Word if BLANKS.contains(&c) => {
                token.finish(out);
                LexerState::Blank
            }
            LexerState::Blank | LexerState::Word if rules.comments && c == '#' => {
                token.finish(out);
                let _comment = rest.find(|c| *c == '\n');
                LexerState::Blank
            }
            LexerState::Blank | LexerState::Word => in_word(c, rules, &mut token, out),
        };
    }
    match state {
        LexerState::Quote(_) => Err(NO_QUOTE),
        LexerState::Escape { .. } => Err(NO_ESCAPED),
        LexerState::Blank | LexerState::Word => {
            token.finish(out);
            Ok(())
        }
    }
}

/// In double quotes a backslash protects a quote or a backslash; in single ones it is nothing special.
fn in_quotes(c: char, quote: char, token: &mut Token) -> LexerState {
    match c {
        _ if c == quote => LexerState::Word,
        '\\' if quote == '"' => LexerState::Escape { quoted: true },
        _ => {
            token.text.push(c);
            LexerState::Quote(quote)
        }
    }
}

fn escaped(c: char, quoted: bool, token: &mut Token) -> LexerState {
    if quoted && !matches!(c, '"' | '\\') {
        token.text.push('\\');
    }
    token.text.push(c);
    if quoted { LexerState::Quote('"') } else { LexerState::Word }
}

fn in_word(c: char, rules: &WordRules, token: &mut Token, out: &mut dyn FnMut(&str)) -> LexerState {
    match c {
        '"' | '\'' => {
            token.quoted = true;
            LexerState::Quote(c)
        }
        '\\' => LexerState::Escape { quoted: false },
        _ if (rules.is_word)(c) => {
            token.text.push(c);
            LexerState::Word
        }
        _ => {
            token.finish(out);
            out(c.encode_utf8(&mut [0; 4]));
            LexerState::Blank
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_split_as_in_python() {
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
            ("\"a", Err(NO_QUOTE)),
            ("a'b", Err(NO_QUOTE)),
            ("a\\", Err(NO_ESCAPED)),
            ("\"a\\", Err(NO_ESCAPED)),
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
    fn environments_are_read_as_supervisord_does() {
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
            ("A=a'b", NO_QUOTE),
            ("A=\"x", NO_QUOTE),
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
