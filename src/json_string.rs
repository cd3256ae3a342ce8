//! Strings in JSON (RFC 8259, section 7).

/// Appends `text` as a JSON string, with its quotation marks. Each byte that is not part of valid UTF-8 becomes the
/// four characters `\xHH`, because JSON can contain only text.
pub(crate) fn append(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend([b'\\', byte]),
                b'\n' => out.extend(b"\\n"),
                b'\0'..=b'\x1f' => append_hex(out, b"\\u00", byte),
                _ => out.push(byte),
            }
        }
        for byte in chunk.invalid() {
            append_hex(out, b"\\\\x", *byte);
        }
    }
    out.push(b'"');
}

fn append_hex(out: &mut Vec<u8>, before: &[u8], byte: u8) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    out.extend(before);
    out.extend([digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        append(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_character_survives() {
        let text: String = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{feff}', '\u{fffd}', '😀']).collect();
        let read: String = serde_json::from_str(&quoted(text.as_bytes())).unwrap();
        assert_eq!(read, text);
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_shown_in_hexadecimal() {
        let read: String = serde_json::from_str(&quoted(b"a\xff\xc3(\xe2\x82")).unwrap();
        assert_eq!(read, r"a\xff\xc3(\xe2\x82");
    }
}
