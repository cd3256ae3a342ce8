//! How Python's `%` prints numbers: flags, width, precision. Only whole numbers occur (`process_num`, `numprocs`), so
//! `%f` and its kin work on decimal digits and stay exact.

/// What stands between the `%` and the conversion.
#[derive(Debug, Default)]
pub(crate) struct FormatSpec {
    left: bool,
    sign: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
    pub(crate) width: usize,
    pub(crate) precision: Option<usize>,
}

impl FormatSpec {
    /// Whether text stays as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.width == 0 && self.precision.is_none()
    }

    pub(crate) fn set_flag(&mut self, flag: char) {
        match flag {
            '-' => self.left = true,
            '+' => self.sign = true,
            ' ' => self.blank = true,
            '#' => self.alternate = true,
            _ => self.zero = true,
        }
    }
}

/// Text in its width, filled with blanks.
pub(crate) fn pad(text: &str, spec: &FormatSpec) -> String {
    let width = spec.width;
    if spec.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// `%d %i %u %o %x %X`.
pub(crate) fn integer(number: i64, conversion: char, spec: &FormatSpec) -> String {
    let magnitude = number.unsigned_abs();
    let (mark, digits) = match conversion {
        'o' => ("0o", format!("{magnitude:o}")),
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        _ => ("", magnitude.to_string()),
    };
    let mark = if spec.alternate { mark } else { "" };
    let least = spec.precision.unwrap_or(0);
    signed(number, mark, &format!("{digits:0>least$}"), spec)
}

/// `%e %E %f %F %g %G` of a whole number.
pub(crate) fn float(number: i64, conversion: char, spec: &FormatSpec) -> String {
    let digits = number.unsigned_abs().to_string();
    let precision = spec.precision.unwrap_or(6);
    let text = match conversion.to_ascii_lowercase() {
        'f' => with_fraction(&digits, &"0".repeat(precision), spec),
        'e' => scientific(&digits, precision, false, spec),
        _ => general(&digits, precision.max(1), spec),
    };
    let text = if conversion.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text };
    signed(number, "", &text, spec)
}

/// Sign, mark and digits in their width; zeros go between the sign and the digits.
fn signed(number: i64, mark: &str, digits: &str, spec: &FormatSpec) -> String {
    let sign = match number {
        i64::MIN..0 => "-",
        _ if spec.sign => "+",
        _ if spec.blank => " ",
        _ => "",
    };
    let front = format!("{sign}{mark}");
    if spec.zero && !spec.left {
        let width = spec.width.saturating_sub(front.len());
        return format!("{front}{digits:0>width$}");
    }
    pad(&format!("{front}{digits}"), spec)
}

fn with_fraction(whole: &str, fraction: &str, spec: &FormatSpec) -> String {
    let point = if fraction.is_empty() && !spec.alternate { "" } else { "." };
    format!("{whole}{point}{fraction}")
}

/// `d.ddde+XX`, without the zeros at the end of the fraction when `short`.
fn scientific(digits: &str, precision: usize, short: bool, spec: &FormatSpec) -> String {
    let (digits, exponent) = round(digits, precision.saturating_add(1));
    let (first, fraction) = digits.split_at_checked(1).unwrap_or((&digits, ""));
    let fraction = if short { fraction.trim_end_matches('0') } else { fraction };
    format!("{}e+{exponent:02}", with_fraction(first, fraction, spec))
}

/// `%g`: as `%e` when the number has more digits than the precision, else as it is.
fn general(digits: &str, precision: usize, spec: &FormatSpec) -> String {
    let (rounded, exponent) = round(digits, precision);
    if exponent >= precision {
        return scientific(digits, precision.saturating_sub(1), !spec.alternate, spec);
    }
    let (whole, fraction) = rounded.split_at_checked(exponent.saturating_add(1)).unwrap_or((&rounded, ""));
    with_fraction(whole, if spec.alternate { fraction } else { "" }, spec)
}

/// The first `length` digits of a number, rounded half to even, and its decimal exponent.
fn round(digits: &str, length: usize) -> (String, usize) {
    let exponent = digits.len().saturating_sub(1);
    let Some((kept, rest)) = digits.split_at_checked(length).filter(|(_, rest)| !rest.is_empty()) else {
        return (format!("{digits:0<length$}"), exponent);
    };
    let is_odd = kept.bytes().next_back().is_some_and(|digit| digit % 2 == 1);
    let half = format!("5{}", "0".repeat(rest.len().saturating_sub(1)));
    if rest < half.as_str() || (rest == half && !is_odd) {
        return (kept.to_owned(), exponent);
    }
    let up = kept.parse::<u64>().unwrap_or(0).saturating_add(1).to_string();
    let carried = up.len().saturating_sub(kept.len());
    (up.get(..length).unwrap_or(&up).to_owned(), exponent.saturating_add(carried))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(flags: &str, width: usize, precision: Option<usize>) -> FormatSpec {
        let mut spec = FormatSpec { width, precision, ..FormatSpec::default() };
        flags.chars().for_each(|flag| spec.set_flag(flag));
        spec
    }

    #[test]
    fn integers() {
        let table = [
            (7, 'd', spec("0", 3, None), "007"),
            (-7, 'd', spec("0", 4, None), "-007"),
            (7, 'd', spec("-0", 3, None), "7  "),
            (7, 'i', spec(" ", 0, None), " 7"),
            (255, 'x', spec("#0", 8, None), "0x0000ff"),
            (255, 'X', spec("#", 0, None), "0XFF"),
            (8, 'o', spec("#", 0, None), "0o10"),
            (-5, 'u', spec("", 0, Some(3)), "-005"),
        ];
        for (number, conversion, spec, want) in table {
            assert_eq!(integer(number, conversion, &spec), want);
        }
    }

    #[test]
    fn floats() {
        let table = [
            (7, 'f', spec("", 0, None), "7.000000"),
            (7, 'F', spec("#", 0, Some(0)), "7."),
            (12345, 'e', spec("", 0, Some(2)), "1.23e+04"),
            (0, 'e', spec("", 0, None), "0.000000e+00"),
            (125, 'e', spec("", 0, Some(1)), "1.2e+02"),
            (99999, 'E', spec("", 0, Some(1)), "1.0E+05"),
            (7, 'g', spec("", 0, None), "7"),
            (1_234_567, 'g', spec("", 0, None), "1.23457e+06"),
            (1_000_000, 'g', spec("", 0, None), "1e+06"),
            (100, 'g', spec("#", 0, None), "100.000"),
            (-3, 'g', spec("0", 5, None), "-0003"),
            (15, 'g', spec("", 0, Some(1)), "2e+01"),
        ];
        for (number, conversion, spec, want) in table {
            assert_eq!(float(number, conversion, &spec), want);
        }
    }
}
