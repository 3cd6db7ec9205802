//! The syntax of `server.properties`: Java's, which `java.util.Properties` reads.

use super::ConfigError;

/// The pairs of a properties text, in order. Comments (`#`, `!`), continued lines (`\` at the end), `=`, `:` or
/// blanks between name and value, and the escapes `\t \n \r \f`, `\u` with four hex digits, and `\` before any other character are understood.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while logical.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANK)),
                None => break,
            }
        }
        pairs.push(pair(&logical, at + 1)?);
    }
    Ok(pairs)
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

fn pair(line: &str, at: usize) -> Result<(String, String), ConfigError> {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (matches!(c, '=' | ':') || BLANK.contains(c));
            escaped = !escaped && *c == '\\';
            ends
        })
        .map_or(line.len(), |(i, _)| i);
    let rest = line[end..].trim_start_matches(BLANK);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANK);
    let name = unescape(&line[..end], at)?;
    if name.is_empty() {
        return Err(ConfigError::Line { line: at, why: "expected NAME=VALUE, found no name" });
    }
    // Kafka trims what it parses; a blank behind a number is nobody's intention.
    Ok((name, unescape(value, at)?.trim_end().to_owned()))
}

fn unescape(text: &str, at: usize) -> Result<String, ConfigError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = (digits.len() == 4).then(|| u32::from_str_radix(&digits, 16).ok()).flatten();
                let c = code
                    .and_then(char::from_u32)
                    .ok_or(ConfigError::Line { line: at, why: "expected \\u and four hexadecimal digits" })?;
                out.push(c);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn every_form_of_a_pair_is_read() {
        let text = "# c\n! c\n\na=1\nb : 2\n  c 3 \nd\ne=x\\\n   y\nf\\=g=h\\u0041\\n\n";
        let expected = owned(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", ""), ("e", "xy"), ("f=g", "hA")]);
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_line_without_a_name_is_refused_with_its_number() {
        assert_eq!(
            parse("a=1\n=2\n").unwrap_err(),
            ConfigError::Line { line: 2, why: "expected NAME=VALUE, found no name" }
        );
    }

    #[test]
    fn a_bad_escape_is_refused_and_a_trailing_backslash_is_not() {
        assert!(parse("a=\\u12").is_err());
        assert!(parse("a=\\uzzzz").is_err());
        assert_eq!(parse("a=1\\").unwrap(), owned(&[("a", "1")]));
    }
}
