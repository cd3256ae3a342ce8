//! supervisord's `%` expansion: Python's `%` formatting of a whole value with a dictionary of names.

use std::fmt::Display;

use super::ordered::{EnvMap, StableSort};
use super::printf::{self, FormatSpec};
use super::python::{ascii, repr};

/// No value that means anything is longer; a few bytes of file must not become gigabytes.
const MAX_LENGTH: usize = 16 << 20;
/// Nor is any field wider (and Rust has no wider ones).
const MAX_WIDTH: usize = 60_000;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'a> {
    Text(&'a str),
    Int(i64),
}

/// The names that a value may use: which ones depends on its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpansionVars<'a> {
    /// `ENV_*`: rsup's environment and `[supervisord] environment`.
    pub(crate) environment: &'a EnvMap,
    /// `ENV_*` of the program's own `environment`, which come first.
    pub(crate) own: &'a [(String, String)],
    /// `here`: the directory of the main file.
    pub(crate) here: Option<&'a str>,
    /// `host_node_name`.
    pub(crate) host: Option<&'a str>,
    /// `program_name`.
    pub(crate) program: Option<&'a str>,
    /// `group_name`.
    pub(crate) group: Option<&'a str>,
    /// `process_num` and `numprocs`.
    pub(crate) numbers: Option<(i64, i64)>,
}

/// Those that are no variables.
const NAMES: [&str; 6] = ["group_name", "here", "host_node_name", "numprocs", "process_num", "program_name"];

impl<'a> ExpansionVars<'a> {
    /// The variables alone.
    pub(crate) fn variables(environment: &'a EnvMap) -> Self {
        ExpansionVars {
            environment,
            own: &[],
            here: None,
            host: None,
            program: None,
            group: None,
            numbers: None,
        }
    }

    fn get(&self, name: &str) -> Option<Item<'a>> {
        match name {
            "here" => self.here.map(Item::Text),
            "host_node_name" => self.host.map(Item::Text),
            "program_name" => self.program.map(Item::Text),
            "group_name" => self.group.map(Item::Text),
            "process_num" => self.numbers.map(|(number, _)| Item::Int(number)),
            "numprocs" => self.numbers.map(|(_, count)| Item::Int(count)),
            _ => self.variable(name.strip_prefix("ENV_")?).map(Item::Text),
        }
    }

    fn variable(&self, name: &str) -> Option<&'a str> {
        let own = self.own.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        own.or_else(|| self.environment.get(name))
    }

    /// All names, sorted, as the message about an unknown one lists them.
    fn list(&self) -> String {
        let variables =
            self.environment.as_slice().iter().chain(self.own).map(|(name, _)| format!("ENV_{name}"));
        let mut all = StableSort::default();
        let others = NAMES.iter().filter(|name| self.get(name).is_some()).map(|name| (*name).to_owned());
        for name in variables.chain(others) {
            all.push(0, name);
        }
        let mut all: Vec<_> = all.into_iter().map(|(name, _)| name).collect();
        all.dedup();
        all.join(", ")
    }
}

/// Why a value cannot be expanded.
enum Fault {
    Unknown(String),
    Format(String),
}

/// Expands a value. `option` is what supervisord calls it in its messages: `program:x.command`.
pub(crate) fn expand(value: &str, names: &ExpansionVars<'_>, option: impl Display) -> Result<String, String> {
    if !value.contains('%') {
        return Ok(value.to_owned());
    }
    Formatter::new(value, names).run().map_err(|fault| {
        let (value, option) = (repr(value), repr(&option.to_string()));
        match fault {
            Fault::Unknown(name) => format!(
                "Format string {value} for {option} contains names ({}) which cannot be expanded. \
                 Available names: {}",
                repr(&name),
                names.list()
            ),
            Fault::Format(why) => format!("Format string {value} for {option} is badly formatted: {why}"),
        }
    })
}

/// The argument that the next conversion takes.
enum Argument<'a> {
    /// No name was given yet: the dictionary itself.
    Dictionary,
    Item(Item<'a>),
    /// Each name serves one conversion.
    Used,
}

/// Walks over one value as CPython's formatter does, so that the same errors come in the same order.
struct Formatter<'a> {
    value: &'a str,
    rest: std::str::Chars<'a>,
    names: &'a ExpansionVars<'a>,
    argument: Argument<'a>,
    out: String,
}

impl<'a> Formatter<'a> {
    fn new(value: &'a str, names: &'a ExpansionVars<'a>) -> Self {
        Formatter { value, rest: value.chars(), names, argument: Argument::Dictionary, out: String::new() }
    }

    fn run(mut self) -> Result<String, Fault> {
        while let Some((plain, rest)) = self.rest.as_str().split_once('%') {
            self.out.push_str(plain);
            self.rest = rest.chars();
            match self.accept(&['%']) {
                Some(percent) => self.out.push(percent),
                None => self.field()?,
            }
            if self.out.len() > MAX_LENGTH {
                return Err(format_fault("the result is too long"));
            }
        }
        self.out.push_str(self.rest.as_str());
        Ok(self.out)
    }

    fn accept(&mut self, wanted: &[char]) -> Option<char> {
        let mut ahead = self.rest.clone();
        let c = ahead.next().filter(|c| wanted.contains(c))?;
        self.rest = ahead;
        Some(c)
    }

    /// Behind a `%`: `(name)`, flags, width, precision, a length letter, the conversion.
    fn field(&mut self) -> Result<(), Fault> {
        if self.accept(&['(']).is_some() {
            self.name()?;
        }
        let mut spec = FormatSpec::default();
        while let Some(flag) = self.accept(&['-', '+', ' ', '#', '0']) {
            spec.set_flag(flag);
        }
        spec.width = self.size("width too big")?.unwrap_or(0);
        if self.accept(&['.']).is_some() {
            spec.precision = Some(self.size("precision too big")?.unwrap_or(0));
        }
        let _length_letter = self.accept(&['h', 'l', 'L']);
        let conversion = self.rest.next().ok_or_else(|| format_fault("incomplete format"))?;
        self.convert(conversion, &spec)
    }

    /// A name ends at the bracket that closes its first one.
    fn name(&mut self) -> Result<(), Fault> {
        let start = self.rest.as_str();
        let mut depth = 1_usize;
        while depth > 0 {
            match self.rest.next() {
                Some('(') => depth = depth.saturating_add(1),
                Some(')') => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return Err(format_fault("incomplete format key")),
            }
        }
        let length = start.len().saturating_sub(self.rest.as_str().len()).saturating_sub(1);
        let name = start.get(..length).unwrap_or("");
        let item = self.names.get(name).ok_or_else(|| Fault::Unknown(name.to_owned()))?;
        self.argument = Argument::Item(item);
        Ok(())
    }

    /// Digits; a `*` takes the argument as the size and leaves none for the conversion.
    fn size(&mut self, too_big: &str) -> Result<Option<usize>, Fault> {
        if self.accept(&['*']).is_some() {
            return match self.take()? {
                Argument::Item(Item::Int(_)) => Err(format_fault("not enough arguments for format string")),
                _ => Err(format_fault("* wants int")),
            };
        }
        let mut size = None;
        while let Some(digit) = self.accept(&['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            let digit = digit.to_digit(10).unwrap_or(0);
            let digit = usize::try_from(digit).unwrap_or(0);
            let larger = size.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit);
            size = Some(larger);
            if larger > MAX_WIDTH {
                return Err(format_fault(too_big));
            }
        }
        Ok(size)
    }

    fn take(&mut self) -> Result<Argument<'a>, Fault> {
        match std::mem::replace(&mut self.argument, Argument::Used) {
            Argument::Used => Err(format_fault("not enough arguments for format string")),
            argument => Ok(argument),
        }
    }

    fn convert(&mut self, conversion: char, spec: &FormatSpec) -> Result<(), Fault> {
        let argument = self.take()?;
        if let ('s', Argument::Item(Item::Text(text)), true) = (conversion, &argument, spec.is_plain()) {
            self.out.push_str(text);
            return Ok(());
        }
        let text = match (conversion, argument) {
            ('s' | 'r' | 'a', Argument::Item(item)) => printf::pad(&text_of(conversion, item, spec), spec),
            ('d' | 'i' | 'u' | 'o' | 'x' | 'X', Argument::Item(Item::Int(n))) => {
                printf::integer(n, conversion, spec)
            }
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Argument::Item(Item::Int(n))) => {
                printf::float(n, conversion, spec)
            }
            ('c', Argument::Item(item)) => printf::pad(&character(item)?, spec),
            (_, argument) => return Err(self.mismatch(conversion, &argument)),
        };
        self.out.push_str(&text);
        Ok(())
    }

    fn mismatch(&self, conversion: char, argument: &Argument<'_>) -> Fault {
        let kind = if matches!(argument, Argument::Dictionary) { "dict" } else { "str" };
        Fault::Format(match conversion {
            'd' | 'i' | 'u' => format!("%{conversion} format: a real number is required, not {kind}"),
            'o' | 'x' | 'X' => format!("%{conversion} format: an integer is required, not {kind}"),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => format!("must be real number, not {kind}"),
            'c' => "%c requires int or char".to_owned(),
            // Python prints the whole dictionary for these; nobody means that.
            's' | 'r' | 'a' => {
                format!("%{conversion} needs a name, as in %(here){conversion}; write %% for a percent sign")
            }
            _ => self.unsupported(conversion),
        })
    }

    fn unsupported(&self, conversion: char) -> String {
        let shown = if ('\u{1f}'..'\u{7f}').contains(&conversion) { conversion } else { '?' };
        let read = self.value.chars().count().saturating_sub(self.rest.clone().count());
        let (code, index) = (u32::from(conversion), read.saturating_sub(1));
        format!("unsupported format character '{shown}' (0x{code:x}) at index {index}")
    }
}

fn format_fault(why: &str) -> Fault {
    Fault::Format(why.to_owned())
}

/// What `%s`, `%r` and `%a` print, cut to the precision.
fn text_of(conversion: char, item: Item<'_>, spec: &FormatSpec) -> String {
    let text = match (conversion, item) {
        (_, Item::Int(n)) => n.to_string(),
        ('r', Item::Text(text)) => repr(text),
        ('a', Item::Text(text)) => ascii(text),
        (_, Item::Text(text)) => text.to_owned(),
    };
    spec.precision.map_or_else(|| text.clone(), |length| text.chars().take(length).collect())
}

fn character(item: Item<'_>) -> Result<String, Fault> {
    match item {
        Item::Text(text) if text.chars().count() == 1 => Ok(text.to_owned()),
        Item::Text(_) => Err(format_fault("%c requires int or char")),
        Item::Int(n) => u32::try_from(n)
            .ok()
            .and_then(char::from_u32)
            .map(String::from)
            .ok_or_else(|| format_fault("%c arg not in range(0x110000)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let mut environment = EnvMap::default();
        environment.set("A", "a%b");
        environment.set("Q", "global");
        let names = ExpansionVars {
            own: &[("Q".to_owned(), "own".to_owned())],
            here: Some("/etc"),
            program: Some("é"),
            numbers: Some((7, 9)),
            ..ExpansionVars::variables(&environment)
        };
        expand(text, &names, "program:x.command")
    }

    #[test]
    fn values_expand() {
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
    fn what_is_wrong_is_said_in_pythons_words() {
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
    fn unknown_names_are_listed_with_the_known() {
        let want = "Format string '%( here )s' for 'program:x.command' contains names (' here ') which cannot be \
                    expanded. Available names: ENV_A, ENV_Q, here, numprocs, process_num, \
                    program_name";
        assert_eq!(run("%( here )s"), Err(want.to_owned()));
    }

    #[test]
    fn the_result_is_bounded() {
        assert!(run(&"%(here)50000s".repeat(400)).is_err());
    }
}
