//! The `%(name)s` expansion of a value: Python's `str % dict`, as supervisord's function `expand` uses it.
//!
//! rsup differs from Python in this: a conversion without a name (`%s`) is an error, where Python prints the whole
//! dictionary; the length of the result and of each field has a limit; and a number stays within 64 bits.

use std::fmt::Display;

use super::collections::{EnvMap, StableSort};
use super::printf::{self, FormatSpec};
use super::python::{ascii, repr};

/// Limit on the bytes of an expanded value, because a short value can expand to gigabytes.
const MAX_LENGTH: usize = 16 << 20;
/// Limit on the width and the precision of a field. Rust's formatter accepts at most 65,535.
const MAX_WIDTH: usize = 60_000;

/// The value of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VarValue<'a> {
    Text(&'a str),
    Int(i64),
}

/// The names that a value may use, with their values. The section and the key decide which names these are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpansionVars<'a> {
    /// For `ENV_*`: rsup's own environment, and `[supervisord] environment`.
    pub(crate) environment: &'a EnvMap,
    /// For `ENV_*`: the program's own `environment`, which overrides the other variables.
    pub(crate) program_environment: &'a [(String, String)],
    /// The names of variables that are set, but whose values are not UTF-8.
    pub(crate) non_utf8_env_names: &'a [String],
    /// The value of `here`: the directory of the main file.
    pub(crate) here: Option<&'a str>,
    /// The value of `host_node_name`: the name of the machine.
    pub(crate) host: Option<&'a str>,
    /// The value of `program_name`. `None` where supervisord does not define it.
    pub(crate) program: Option<&'a str>,
    /// The value of `group_name`. `None` where supervisord does not define it.
    pub(crate) group: Option<&'a str>,
    /// The values of `process_num` and `numprocs`. `None` where supervisord does not define them.
    pub(crate) process_num_and_numprocs: Option<(i64, i64)>,
}

/// The names that do not begin with `ENV_`.
const NON_ENV_NAMES: [&str; 6] =
    ["group_name", "here", "host_node_name", "numprocs", "process_num", "program_name"];

impl<'a> ExpansionVars<'a> {
    /// Defines the name `ENV_X` for each variable X of `environment`, and no other names.
    pub(crate) fn with_env_only(environment: &'a EnvMap) -> Self {
        ExpansionVars {
            environment,
            program_environment: &[],
            non_utf8_env_names: &[],
            here: None,
            host: None,
            program: None,
            group: None,
            process_num_and_numprocs: None,
        }
    }

    fn get(&self, name: &str) -> Option<VarValue<'a>> {
        match name {
            "here" => self.here.map(VarValue::Text),
            "host_node_name" => self.host.map(VarValue::Text),
            "program_name" => self.program.map(VarValue::Text),
            "group_name" => self.group.map(VarValue::Text),
            "process_num" => self.process_num_and_numprocs.map(|(number, _)| VarValue::Int(number)),
            "numprocs" => self.process_num_and_numprocs.map(|(_, count)| VarValue::Int(count)),
            _ => self.variable(name.strip_prefix("ENV_")?).map(VarValue::Text),
        }
    }

    fn is_not_utf8(&self, name: &str) -> bool {
        name.strip_prefix("ENV_")
            .is_some_and(|name| self.non_utf8_env_names.iter().any(|known| known == name))
    }

    fn variable(&self, name: &str) -> Option<&'a str> {
        let program_value =
            self.program_environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        program_value.or_else(|| self.environment.get(name))
    }

    /// All names, sorted, as supervisord's message about an unknown name lists them.
    fn available(&self) -> String {
        let variables = self
            .environment
            .as_slice()
            .iter()
            .chain(self.program_environment)
            .map(|(name, _)| format!("ENV_{name}"));
        let mut all_names = StableSort::default();
        let others =
            NON_ENV_NAMES.iter().filter(|name| self.get(name).is_some()).map(|name| (*name).to_owned());
        for name in variables.chain(others) {
            all_names.push(0, name);
        }
        let mut all: Vec<_> = all_names.into_sorted().map(|(name, _)| name).collect();
        all.dedup();
        all.join(", ")
    }
}

/// The reason why a value cannot be expanded.
enum ExpandError {
    UnknownName(String),
    BadFormat(String),
}

/// Expands a value. `option` is the name that messages give the value, such as `program:x.command`.
///
/// # Errors
/// Returns the message that supervisord writes for this value.
pub(crate) fn expand(value: &str, vars: &ExpansionVars<'_>, option: &dyn Display) -> Result<String, String> {
    if !value.contains('%') {
        return Ok(value.to_owned());
    }
    Formatter::new(value, vars).run().map_err(|error| {
        let value = repr(value);
        let option = repr(&option.to_string());
        match error {
            ExpandError::UnknownName(name) if vars.is_not_utf8(&name) => format!(
                "Format string {value} for {option} contains names ({}) which cannot be expanded. \
                 This variable is set, but its value is not UTF-8",
                repr(&name)
            ),
            ExpandError::UnknownName(name) => format!(
                "Format string {value} for {option} contains names ({}) which cannot be expanded. \
                 Available names: {}",
                repr(&name),
                vars.available()
            ),
            ExpandError::BadFormat(why) => {
                format!("Format string {value} for {option} is badly formatted: {why}")
            }
        }
    })
}

/// Returns a text to append to the message about a syntax error in an expanded value. A character that a `%(name)s`
/// inserted may have caused the error. The returned text names the first `%(name)s` of the unexpanded `value` that
/// inserts such a character. If no `%(name)s` inserts such a character, the returned text is empty.
pub(crate) fn describe_expansion_cause(
    value: &str,
    vars: &ExpansionVars<'_>,
    can_cause_syntax_error: &dyn Fn(char) -> bool,
) -> String {
    let mut remaining = value;
    while let Some((_, after)) = remaining.split_once('%') {
        remaining = after.strip_prefix('%').unwrap_or(after);
        let name = after.strip_prefix('(').and_then(|after| after.split_once(')')).map(|(name, _)| name);
        if let Some(name) = name
            && let Some(VarValue::Text(text)) = vars.get(name)
            && let Some(cause) = text.chars().find(|c| can_cause_syntax_error(*c))
        {
            return format!(" (the value of %({name})s contains {})", repr(&cause.to_string()));
        }
    }
    String::new()
}

/// The argument of the next conversion.
enum Argument<'a> {
    /// The whole dictionary, which Python uses as long as no `(name)` has been read.
    Dictionary,
    Item(VarValue<'a>),
    /// A conversion has already used the argument. The next conversion needs a `(name)` of its own.
    Used,
}

/// Expands a value from left to right in the order of CPython's `PyUnicode_Format`. If a value has several errors, rsup
/// must report the same one as Python.
struct Formatter<'a> {
    value: &'a str,
    remaining: std::str::Chars<'a>,
    vars: &'a ExpansionVars<'a>,
    argument: Argument<'a>,
    out: String,
}

impl<'a> Formatter<'a> {
    fn new(value: &'a str, vars: &'a ExpansionVars<'a>) -> Self {
        let remaining = value.chars();
        Formatter { value, remaining, vars, argument: Argument::Dictionary, out: String::new() }
    }

    fn run(mut self) -> Result<String, ExpandError> {
        while let Some((literal, after)) = self.remaining.as_str().split_once('%') {
            self.out.push_str(literal);
            self.remaining = after.chars();
            match self.accept(&['%']) {
                Some(percent) => self.out.push(percent),
                None => self.format_field()?,
            }
            if self.out.len() > MAX_LENGTH {
                return Err(bad_format("the result is too long"));
            }
        }
        self.out.push_str(self.remaining.as_str());
        Ok(self.out)
    }

    /// Consumes the next character if it is one of `wanted`.
    fn accept(&mut self, wanted: &[char]) -> Option<char> {
        let mut ahead = self.remaining.clone();
        let c = ahead.next().filter(|c| wanted.contains(c))?;
        self.remaining = ahead;
        Some(c)
    }

    /// Formats the field after a `%`: `(name)`, flags, width, precision, a length letter, the conversion.
    fn format_field(&mut self) -> Result<(), ExpandError> {
        if self.accept(&['(']).is_some() {
            self.read_named_argument()?;
        }
        let mut spec = FormatSpec::default();
        while let Some(flag) = self.accept(&['-', '+', ' ', '#', '0']) {
            spec.set_flag(flag);
        }
        spec.width = self.read_size("width too big")?.unwrap_or(0);
        if self.accept(&['.']).is_some() {
            spec.precision = Some(self.read_size("precision too big")?.unwrap_or(0));
        }
        let _length_letter = self.accept(&['h', 'l', 'L']);
        let conversion = self.remaining.next().ok_or_else(|| bad_format("incomplete format"))?;
        self.convert(conversion, &spec)
    }

    /// Reads a name up to the parenthesis that matches the opening one.
    fn read_named_argument(&mut self) -> Result<(), ExpandError> {
        let start = self.remaining.as_str();
        let mut depth = 1_usize;
        while depth > 0 {
            match self.remaining.next() {
                Some('(') => depth = depth.saturating_add(1),
                Some(')') => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return Err(bad_format("incomplete format key")),
            }
        }
        let length = start.len().saturating_sub(self.remaining.as_str().len()).saturating_sub(1);
        let name = start.get(..length).unwrap_or("");
        let item = self.vars.get(name).ok_or_else(|| ExpandError::UnknownName(name.to_owned()))?;
        self.argument = Argument::Item(item);
        Ok(())
    }

    /// Reads a width or a precision. A `*` is always an error. A `*` needs an integer, and takes the only argument of
    /// the field. So even if this argument is an integer, no argument is left for the conversion.
    fn read_size(&mut self, too_big_message: &str) -> Result<Option<usize>, ExpandError> {
        if self.accept(&['*']).is_some() {
            return match self.use_up_argument()? {
                Argument::Item(VarValue::Int(_)) => Err(bad_format("not enough arguments for format string")),
                _ => Err(bad_format("* wants int")),
            };
        }
        let mut size = None;
        while let Some(digit) = self.accept(&['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            let digit = digit.to_digit(10).unwrap_or(0);
            let digit = usize::try_from(digit).unwrap_or(0);
            let larger = size.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit);
            size = Some(larger);
            if larger > MAX_WIDTH {
                return Err(bad_format(too_big_message));
            }
        }
        Ok(size)
    }

    fn use_up_argument(&mut self) -> Result<Argument<'a>, ExpandError> {
        match std::mem::replace(&mut self.argument, Argument::Used) {
            Argument::Used => Err(bad_format("not enough arguments for format string")),
            argument => Ok(argument),
        }
    }

    fn convert(&mut self, conversion: char, spec: &FormatSpec) -> Result<(), ExpandError> {
        let argument = self.use_up_argument()?;
        if let ('s', Argument::Item(VarValue::Text(text)), true) =
            (conversion, &argument, spec.leaves_text_unchanged())
        {
            self.out.push_str(text);
            return Ok(());
        }
        let text = match (conversion, argument) {
            ('s' | 'r' | 'a', Argument::Item(item)) => printf::pad(&text_of(conversion, item, spec), spec),
            ('d' | 'i' | 'u' | 'o' | 'x' | 'X', Argument::Item(VarValue::Int(n))) => {
                printf::integer(n, conversion, spec)
            }
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Argument::Item(VarValue::Int(n))) => {
                printf::float(n, conversion, spec)
            }
            ('c', Argument::Item(item)) => printf::pad(&character(item)?, spec),
            (_, argument) => return Err(self.mismatch(conversion, &argument)),
        };
        self.out.push_str(&text);
        Ok(())
    }

    fn mismatch(&self, conversion: char, argument: &Argument<'_>) -> ExpandError {
        let kind = if matches!(argument, Argument::Dictionary) { "dict" } else { "str" };
        ExpandError::BadFormat(match conversion {
            'd' | 'i' | 'u' => format!("%{conversion} format: a real number is required, not {kind}"),
            'o' | 'x' | 'X' => format!("%{conversion} format: an integer is required, not {kind}"),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => format!("must be real number, not {kind}"),
            'c' => "%c requires int or char".to_owned(),
            // Python prints the whole dictionary here. A user never intends that, so rsup reports an error.
            's' | 'r' | 'a' => {
                format!("%{conversion} needs a name, as in %(here){conversion}; write %% for a percent sign")
            }
            _ => self.unsupported(conversion),
        })
    }

    fn unsupported(&self, conversion: char) -> String {
        let shown = if ('\u{1f}'..'\u{7f}').contains(&conversion) { conversion } else { '?' };
        let read = self.value.chars().count().saturating_sub(self.remaining.clone().count());
        let code = u32::from(conversion);
        let index = read.saturating_sub(1);
        format!("unsupported format character '{shown}' (0x{code:x}) at index {index}")
    }
}

fn bad_format(why: &str) -> ExpandError {
    ExpandError::BadFormat(why.to_owned())
}

/// The text of `%s`, `%r` and `%a`, cut to the precision.
fn text_of(conversion: char, item: VarValue<'_>, spec: &FormatSpec) -> String {
    let text = match (conversion, item) {
        (_, VarValue::Int(n)) => n.to_string(),
        ('r', VarValue::Text(text)) => repr(text),
        ('a', VarValue::Text(text)) => ascii(text),
        (_, VarValue::Text(text)) => text.to_owned(),
    };
    spec.precision.map_or_else(|| text.clone(), |length| text.chars().take(length).collect())
}

fn character(item: VarValue<'_>) -> Result<String, ExpandError> {
    match item {
        VarValue::Text(text) if text.chars().count() == 1 => Ok(text.to_owned()),
        VarValue::Text(_) => Err(bad_format("%c requires int or char")),
        VarValue::Int(n) => u32::try_from(n)
            .ok()
            .and_then(char::from_u32)
            .map(String::from)
            .ok_or_else(|| bad_format("%c arg not in range(0x110000)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let mut environment = EnvMap::default();
        environment.set("A", "a%b");
        environment.set("Q", "global");
        let vars = ExpansionVars {
            program_environment: &[("Q".to_owned(), "own".to_owned())],
            here: Some("/etc"),
            program: Some("é"),
            process_num_and_numprocs: Some((7, 9)),
            ..ExpansionVars::with_env_only(&environment)
        };
        expand(text, &vars, &"program:x.command")
    }

    #[test]
    fn values_expand_as_in_python() {
        let table = [
            ("plain", "plain"),
            ("100%%", "100%"),
            ("%(here)s/x", "/etc/x"),
            ("%(ENV_A)s", "a%b"),
            ("%(ENV_Q)s", "own"),
            ("%(process_num)02d", "07"),
            ("%(process_num)s", "7"),
            ("%(process_num)-4d|", "7   |"),
            ("%(process_num)+d", "+7"),
            ("%(process_num)#x", "0x7"),
            ("%(process_num).3d", "007"),
            ("%(process_num)5.2f", " 7.00"),
            ("%(process_num)ld", "7"),
            ("%(process_num)c", "\u{7}"),
            ("%(here)8s|", "    /etc|"),
            ("%(here)-8s|", "/etc    |"),
            ("%(here).2s", "/e"),
            ("%(here)r", "'/etc'"),
            ("%(program_name)c", "é"),
            ("%(program_name)a", "'\\xe9'"),
            ("%(here)08s", "    /etc"),
        ];
        for (text, want) in table {
            assert_eq!(run(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors_have_pythons_messages() {
        let table = [
            ("%", "incomplete format"),
            ("%(here)%", "unsupported format character '%' (0x25) at index 7"),
            ("%(here", "incomplete format key"),
            ("%(here)", "incomplete format"),
            ("date +%Y", "unsupported format character 'Y' (0x59) at index 7"),
            ("%(here)d", "%d format: a real number is required, not str"),
            ("%(here)x", "%x format: an integer is required, not str"),
            ("%(here)f", "must be real number, not str"),
            ("%(here)c", "%c requires int or char"),
            ("%d", "%d format: a real number is required, not dict"),
            ("%(here)s %Y", "not enough arguments for format string"),
            ("%(process_num)*d", "not enough arguments for format string"),
            ("%(here)*s", "* wants int"),
            ("%é", "unsupported format character '?' (0xe9) at index 1"),
            ("%(here)99999999s", "width too big"),
        ];
        for (text, why) in table {
            let want =
                format!("Format string {} for 'program:x.command' is badly formatted: {why}", repr(text));
            assert_eq!(run(text), Err(want));
        }
    }

    #[test]
    fn the_message_about_an_unknown_name_lists_the_available_names() {
        let want = "Format string '%( here )s' for 'program:x.command' contains names (' here ') which cannot be \
                    expanded. Available names: ENV_A, ENV_Q, here, numprocs, process_num, \
                    program_name";
        assert_eq!(run("%( here )s"), Err(want.to_owned()));
    }

    #[test]
    fn the_message_about_a_variable_that_is_not_utf_8_says_so() {
        let non_utf8_env_names = ["X".to_owned()];
        let environment = EnvMap::default();
        let vars = ExpansionVars {
            non_utf8_env_names: &non_utf8_env_names,
            ..ExpansionVars::with_env_only(&environment)
        };
        let want = "Format string '%(ENV_X)s' for 'k' contains names ('ENV_X') which cannot be expanded. This variable \
                    is set, but its value is not UTF-8";
        assert_eq!(expand("%(ENV_X)s", &vars, &"k"), Err(want.to_owned()));
        assert!(expand("%(ENV_Y)s", &vars, &"k").is_err_and(|why| why.contains("Available names")));
        let program_environment = [("X".to_owned(), "own".to_owned())];
        assert_eq!(
            expand("%(ENV_X)s", &ExpansionVars { program_environment: &program_environment, ..vars }, &"k"),
            Ok("own".to_owned())
        );
    }

    #[test]
    fn the_name_whose_text_contains_a_character_is_found() {
        let mut environment = EnvMap::default();
        environment.set("A", "a");
        environment.set("Q", "it's");
        let vars = ExpansionVars::with_env_only(&environment);
        let about = |value: &str| describe_expansion_cause(value, &vars, &|c| c == '\'');
        assert_eq!(about("'%(ENV_A)s %(ENV_Q)s %(nope)s'"), " (the value of %(ENV_Q)s contains \"'\")");
        for value in ["", "'", "%", "%(", "%(ENV_A)s", "%%(ENV_Q)s", "100%%"] {
            assert_eq!(about(value), "", "{value}");
        }
    }

    #[test]
    fn a_result_above_the_limit_is_an_error() {
        assert!(run(&"%(here)50000s".repeat(400)).is_err());
    }
}
