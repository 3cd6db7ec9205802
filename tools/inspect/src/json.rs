//! JSON lines, written field by field, without a value in between.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use highwater_engine::batch::crc32c;
use sha2::{Digest, Sha256};

/// Longer keys and values are given by length and checksums.
const LONGEST_HEX: usize = 1024;

/// One JSON object on one line.
pub(crate) struct Line {
    text: String,
}

impl Line {
    pub(crate) fn new(kind: &str) -> Line {
        let mut line = Line { text: String::with_capacity(512) };
        line.text.push('{');
        line.string("type", kind);
        line
    }

    /// An object inside a line.
    pub(crate) fn nested() -> Line {
        Line { text: "{".into() }
    }

    pub(crate) fn string(&mut self, name: &str, value: &str) -> &mut Line {
        self.name(name);
        quote(&mut self.text, value);
        self
    }

    /// A number, `true`, `false` or `null`.
    pub(crate) fn plain(&mut self, name: &str, value: impl Display) -> &mut Line {
        self.name(name);
        let _ = write!(self.text, "{value}"); // Writing to a String cannot fail.
        self
    }

    pub(crate) fn optional(&mut self, name: &str, value: Option<impl Display>) -> &mut Line {
        match value {
            Some(value) => self.plain(name, value),
            None => self.plain(name, "null"),
        }
    }

    /// Bytes as `<name>_hex`, or null; long ones as `<name>_len`, `<name>_crc32c` and `<name>_sha256`.
    pub(crate) fn bytes(&mut self, name: &str, value: Option<&[u8]>) -> &mut Line {
        match value {
            Some(bytes) if bytes.len() > LONGEST_HEX => {
                self.plain(&format!("{name}_len"), bytes.len());
                self.plain(&format!("{name}_crc32c"), crc32c(bytes));
                self.hex(&format!("{name}_sha256"), &Sha256::digest(bytes))
            }
            Some(bytes) => self.hex(&format!("{name}_hex"), bytes),
            None => self.plain(&format!("{name}_hex"), "null"),
        }
    }

    /// Bytes as hex whatever their length.
    pub(crate) fn hex(&mut self, name: &str, bytes: &[u8]) -> &mut Line {
        self.name(name);
        self.text.push('"');
        hex(&mut self.text, bytes);
        self.text.push('"');
        self
    }

    /// An array whose items are JSON already.
    pub(crate) fn array(&mut self, name: &str, items: impl Iterator<Item = String>) -> &mut Line {
        self.name(name);
        self.text.push('[');
        for (i, item) in items.enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            self.text.push_str(&item);
        }
        self.text.push(']');
        self
    }

    pub(crate) fn write(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.text.push_str("}\n");
        out.write_all(self.text.as_bytes())
    }

    pub(crate) fn finish(&mut self) -> String {
        self.text.push('}');
        std::mem::take(&mut self.text)
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        quote(&mut self.text, name);
        self.text.push(':');
    }
}

/// A JSON string.
pub(crate) fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    quote(&mut text, value);
    text
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c)); // Writing to a String cannot fail.
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

pub(crate) fn hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.reserve(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json() {
        let mut line = Line::new("x");
        line.string("s", "a\"b\\c\n\u{1}ü").plain("n", -1).optional("none", None::<i32>);
        line.bytes("key", Some(&[0xab, 1]))
            .bytes("value", None)
            .array("a", ["1", "2"].map(String::from).into_iter());
        let parsed: serde_json::Value = serde_json::from_str(&line.finish()).unwrap();
        assert_eq!(parsed["s"], "a\"b\\c\n\u{1}ü");
        assert_eq!(parsed["key_hex"], "ab01");
        assert!(parsed["value_hex"].is_null() && parsed["none"].is_null());
        assert_eq!(parsed["a"][1], 2);
    }
}
