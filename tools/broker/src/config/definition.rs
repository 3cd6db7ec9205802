//! What is known of one setting, and the checks of a value against it.

use super::ConfigError;

/// Type and bounds of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer within these bounds, both included.
    Int(i32, i32),
    /// A 64-bit integer within these bounds, both included.
    Long(i64, i64),
    /// A number within these bounds, both included.
    Double(f64, f64),
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of any words.
    List,
    /// A comma-separated list of these words.
    ListOf(&'static [&'static str]),
    /// A text that is never shown.
    Secret,
}

/// What becomes of a setting here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// It does what Kafka's documentation says.
    InEffect,
    /// Known, checked, and without effect here.
    NoEffect,
    /// Refused when given, because it asks for something that is not there.
    Refused(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    /// Kafka's name for it (or ours, for `durability` and `highwater.*`).
    pub(crate) name: &'static str,
    /// Type and bounds.
    pub(crate) kind: Kind,
    /// The default, as a properties file would say it; `None` is Kafka's null.
    pub(crate) default: Option<&'static str>,
    /// What becomes of it.
    pub(crate) class: Class,
}

/// Kafka's names for the types of settings, as DescribeConfigs gives them on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WireType {
    /// 1
    Boolean = 1,
    /// 2
    Text = 2,
    /// 3
    Int = 3,
    /// 5
    Long = 5,
    /// 6
    Double = 6,
    /// 7
    List = 7,
    /// 9
    Password = 9,
}

impl Definition {
    /// Checks a value's type and bounds, and says it back trimmed.
    pub(crate) fn check<'v>(&self, value: &'v str) -> Result<&'v str, ConfigError> {
        let value = value.trim();
        if let Class::Refused(why) = self.class {
            return Err(ConfigError::Unsupported { name: self.name.into(), found: value.into(), why });
        }
        let fits = match self.kind {
            Kind::Bool => matches!(value.to_ascii_lowercase().as_str(), "true" | "false"),
            Kind::Int(min, max) => value.parse::<i32>().is_ok_and(|v| (min..=max).contains(&v)),
            Kind::Long(min, max) => value.parse::<i64>().is_ok_and(|v| (min..=max).contains(&v)),
            Kind::Double(min, max) => value.parse::<f64>().is_ok_and(|v| (min..=max).contains(&v)),
            Kind::Text | Kind::Secret | Kind::List => true,
            Kind::Choice(words) => words.contains(&value),
            Kind::ListOf(words) => list(value).all(|word| words.contains(&word)),
        };
        if fits { Ok(value) } else { Err(self.misfit(value)) }
    }

    /// The error that says what this setting can be.
    pub(crate) fn misfit(&self, found: &str) -> ConfigError {
        ConfigError::Value {
            name: self.name.into(),
            found: found.chars().take(256).collect(),
            expected: self.expected(),
            default: self.default.unwrap_or("none").into(),
        }
    }

    /// Type and bounds, for people.
    pub(crate) fn expected(&self) -> String {
        match self.kind {
            Kind::Bool => "true or false".into(),
            Kind::Int(min, max) => bounds("an integer", &min, &max, max == i32::MAX),
            Kind::Long(min, max) => bounds("an integer", &min, &max, max == i64::MAX),
            Kind::Double(min, max) => bounds("a number", &min, &max, max == f64::MAX),
            Kind::Text | Kind::Secret => "a text".into(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::List => "a comma-separated list".into(),
            Kind::ListOf(words) => format!("a comma-separated list of {}", words.join(", ")),
        }
    }

    /// The type as the protocol numbers it.
    pub(crate) fn wire_type(&self) -> WireType {
        match self.kind {
            Kind::Bool => WireType::Boolean,
            Kind::Int(..) => WireType::Int,
            Kind::Long(..) => WireType::Long,
            Kind::Double(..) => WireType::Double,
            Kind::Text | Kind::Choice(_) => WireType::Text,
            Kind::List | Kind::ListOf(_) => WireType::List,
            Kind::Secret => WireType::Password,
        }
    }
}

fn bounds(what: &str, min: &dyn std::fmt::Display, max: &dyn std::fmt::Display, open: bool) -> String {
    if open { format!("{what} of at least {min}") } else { format!("{what} from {min} to {max}") }
}

/// The words of a comma-separated list.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// The candidate most like `name`: fewest edits, the first of equals.
pub(crate) fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> &'static str {
    // Names are short, but what was given need not be.
    let name: Vec<char> = name.chars().take(128).collect();
    candidates.min_by_key(|candidate| edits(&name, candidate)).unwrap_or("")
}

/// Levenshtein distance.
fn edits(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, y) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, x) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(*x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: Definition = Definition {
        name: "num.partitions",
        kind: Kind::Int(1, i32::MAX),
        default: Some("1"),
        class: Class::InEffect,
    };

    #[test]
    fn a_value_out_of_bounds_is_refused_with_bounds_and_default() {
        let error = PARTITIONS.check("0").unwrap_err().to_string();
        assert_eq!(
            error,
            "num.partitions: expected an integer of at least 1, found \"0\" (the default is 1)"
        );
        assert_eq!(PARTITIONS.check(" 7 "), Ok("7"));
    }

    #[test]
    fn the_nearest_name_has_the_fewest_edits() {
        assert_eq!(nearest("retention.m", ["retention.bytes", "retention.ms"].into_iter()), "retention.ms");
    }
}
