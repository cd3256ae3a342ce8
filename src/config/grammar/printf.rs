//! The conversions of Python's `str % dict` for numbers and text, with flags, width and precision.
//!
//! The only numbers are the integers `process_num` and `numprocs`. So a floating-point conversion needs no `f64`: it
//! pads or rounds the integer's decimal digits. For integers above 2^53 these digits are exact; Python rounds such an
//! integer to a double first.

/// The flags, the width and the precision before a conversion.
#[derive(Debug, Default)]
pub(crate) struct FormatSpec {
    /// `-`: fill on the right.
    left: bool,
    /// `+`: write a sign also for positive numbers.
    sign: bool,
    /// A space: write a space where `+` would write a sign.
    space: bool,
    /// `#`: for integers, write the prefix `0o`, `0x` or `0X`. For floating-point conversions, always write the decimal
    /// point, and keep the zeros at the end of a `%g` fraction.
    alternate: bool,
    /// `0`: fill with zeros.
    zero: bool,
    pub(crate) width: usize,
    pub(crate) precision: Option<usize>,
}

impl FormatSpec {
    /// Returns whether `%s` with this width and precision writes a text unchanged.
    pub(crate) fn leaves_text_unchanged(&self) -> bool {
        self.width == 0 && self.precision.is_none()
    }

    pub(crate) fn set_flag(&mut self, flag: char) {
        match flag {
            '-' => self.left = true,
            '+' => self.sign = true,
            ' ' => self.space = true,
            '#' => self.alternate = true,
            _ => self.zero = true,
        }
    }
}

/// Fills a text with spaces up to the width.
pub(crate) fn pad(text: &str, spec: &FormatSpec) -> String {
    let width = spec.width;
    if spec.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// Formats an integer for `%d`, `%i`, `%u`, `%o`, `%x` or `%X`.
pub(crate) fn integer(number: i64, conversion: char, spec: &FormatSpec) -> String {
    let magnitude = number.unsigned_abs();
    let (prefix, digits) = match conversion {
        'o' => ("0o", format!("{magnitude:o}")),
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        _ => ("", magnitude.to_string()),
    };
    let prefix = if spec.alternate { prefix } else { "" };
    let min_digits = spec.precision.unwrap_or(0);
    sign_and_pad(number, prefix, &format!("{digits:0>min_digits$}"), spec)
}

/// Formats an integer for `%e`, `%E`, `%f`, `%F`, `%g` or `%G`.
pub(crate) fn float(number: i64, conversion: char, spec: &FormatSpec) -> String {
    let digits = number.unsigned_abs().to_string();
    let precision = spec.precision.unwrap_or(6);
    let text = match conversion.to_ascii_lowercase() {
        'f' => with_fraction(&digits, &"0".repeat(precision), spec),
        'e' => scientific(&digits, precision, false, spec),
        _ => general(&digits, precision.max(1), spec),
    };
    let text = if conversion.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text };
    sign_and_pad(number, "", &text, spec)
}

/// Joins the sign, the prefix and the digits. A result that is shorter than the width is filled: with zeros before the
/// digits if the flag `0` is set and the flag `-` is not, and with spaces otherwise.
fn sign_and_pad(number: i64, prefix: &str, digits: &str, spec: &FormatSpec) -> String {
    let sign = match number {
        i64::MIN..0 => "-",
        _ if spec.sign => "+",
        _ if spec.space => " ",
        _ => "",
    };
    let front = format!("{sign}{prefix}");
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

/// Writes `d.ddde+XX`. With `trim_zeros`, the fraction ends at its last digit that is not zero.
fn scientific(digits: &str, precision: usize, trim_zeros: bool, spec: &FormatSpec) -> String {
    let (digits, exponent) = round(digits, precision.saturating_add(1));
    let (first, fraction) = digits.split_at_checked(1).unwrap_or((&digits, ""));
    let fraction = if trim_zeros { fraction.trim_end_matches('0') } else { fraction };
    format!("{}e+{exponent:02}", with_fraction(first, fraction, spec))
}

/// Formats a number for `%g`. If the number has more digits than the precision, the result has scientific notation;
/// otherwise the result has all of its digits.
fn general(digits: &str, precision: usize, spec: &FormatSpec) -> String {
    let (rounded, exponent) = round(digits, precision);
    if exponent >= precision {
        return scientific(digits, precision.saturating_sub(1), !spec.alternate, spec);
    }
    let (whole, fraction) = rounded.split_at_checked(exponent.saturating_add(1)).unwrap_or((&rounded, ""));
    with_fraction(whole, if spec.alternate { fraction } else { "" }, spec)
}

/// Rounds a number to `length` digits, half to even. Returns the digits and the decimal exponent.
fn round(digits: &str, length: usize) -> (String, usize) {
    let exponent = digits.len().saturating_sub(1);
    let Some((kept, cut)) = digits.split_at_checked(length).filter(|(_, cut)| !cut.is_empty()) else {
        return (format!("{digits:0<length$}"), exponent);
    };
    let is_odd = kept.bytes().next_back().is_some_and(|digit| digit % 2 == 1);
    let half = format!("5{}", "0".repeat(cut.len().saturating_sub(1)));
    if cut < half.as_str() || (cut == half && !is_odd) {
        return (kept.to_owned(), exponent);
    }
    let rounded = kept.parse::<u64>().unwrap_or(0).saturating_add(1).to_string();
    // 99 rounds up to 100, which has one digit more.
    let carry = rounded.len().saturating_sub(kept.len());
    (rounded.get(..length).unwrap_or(&rounded).to_owned(), exponent.saturating_add(carry))
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
    fn integers_are_written_as_in_python() {
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
    fn floating_point_conversions_are_written_as_in_python() {
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
