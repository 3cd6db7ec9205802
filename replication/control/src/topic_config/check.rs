//! Whether a text is a legal value of a setting; which known name an unknown one was meant to be.

use std::fmt;

use super::definition::{Bounds, ConfigClass, ConfigKind, TopicConfigDefinition};
use super::table::{topic_config, topic_configs};

/// A setting that cannot be: Kafka's INVALID_CONFIG.
///
/// ```
/// let error = highwater_control::check_topic_config("retention.sm", "1").unwrap_err();
/// assert!(error.to_string().contains("retention.ms"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such setting.
    Unknown {
        /// Whose setting: `topic` or `broker`.
        level: &'static str,
        /// The name.
        name: String,
        /// The known name that looks most like it, if any does.
        nearest: Option<&'static str>,
    },
    /// The text is not of the setting's type, or outside its bounds.
    Invalid {
        /// The setting.
        name: &'static str,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
        /// Its default.
        default: &'static str,
    },
    /// A legal value that Highwater does not offer.
    Refused {
        /// The setting.
        name: &'static str,
        /// The value.
        found: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// An operation that only lists have.
    NotAList {
        /// The setting.
        name: &'static str,
        /// `APPEND` or `SUBTRACT`.
        operation: &'static str,
    },
    /// The same setting more than once in one request.
    Twice {
        /// The setting.
        name: String,
    },
    /// A broker setting that only takes effect at a start.
    NotDynamic {
        /// The setting.
        name: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { level, name, nearest } => {
                write!(f, "Unknown {level} config name: {name}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            ConfigError::Invalid { name, found, expected, default } => write!(
                f,
                "Invalid value {found} for configuration {name}: expected {expected} (default {})",
                if default.is_empty() { "empty" } else { default }
            ),
            ConfigError::Refused { name, found, reason } => {
                write!(f, "Invalid value {found} for configuration {name}: {reason}")
            }
            ConfigError::NotAList { name, operation } => {
                write!(f, "Can't {operation} to key {name} because its type is not LIST.")
            }
            ConfigError::Twice { name } => write!(f, "Error due to duplicate config keys: {name}"),
            ConfigError::NotDynamic { name } => {
                write!(
                    f,
                    "Cannot update these configs dynamically: {name}; set it where the broker is started."
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Checks one topic setting; gives its definition.
///
/// ```
/// use highwater_control::check_topic_config;
/// assert!(check_topic_config("retention.ms", "-1").is_ok());
/// assert!(check_topic_config("retention.ms", "-2").is_err());
/// assert!(check_topic_config("cleanup.policy", "compact,delete").is_ok());
/// ```
pub fn check_topic_config(name: &str, value: &str) -> Result<&'static TopicConfigDefinition, ConfigError> {
    let Some(definition) = topic_config(name) else {
        return Err(ConfigError::Unknown {
            level: "topic",
            name: clip(name),
            nearest: nearest(name, topic_configs().iter().map(|d| d.name)),
        });
    };
    definition.check(value)?;
    Ok(definition)
}

impl TopicConfigDefinition {
    /// Checks a value of this setting.
    pub(crate) fn check(&self, value: &str) -> Result<(), ConfigError> {
        let invalid = |expected: String| ConfigError::Invalid {
            name: self.name,
            found: clip(value),
            expected,
            default: self.default,
        };
        let text = value.trim();
        let typed = match self.kind {
            ConfigKind::Boolean => parse_bool(text).map(i64::from),
            ConfigKind::Int => text.parse::<i32>().ok().map(i64::from),
            ConfigKind::Long => text.parse::<i64>().ok(),
            ConfigKind::Double => text.parse::<f64>().ok().filter(|x| x.is_finite()).map(|_| 0),
            ConfigKind::String | ConfigKind::List => Some(0),
        };
        let Some(number) = typed else {
            let article = if self.kind == ConfigKind::Int { "an" } else { "a" };
            return Err(invalid(format!("{article} {}, {}", self.kind.name(), self.bounds_text())));
        };
        let inside = match self.bounds {
            Bounds::Any => true,
            Bounds::AtLeast(min) => number >= min,
            Bounds::Between { min, max, or } => (min..=max).contains(&number) || number == or,
            Bounds::OneOf(values) => values.contains(&text),
            Bounds::Subset(values) => items(text).all(|item| values.contains(&item)),
            Bounds::Fraction => text.parse::<f64>().is_ok_and(|x| (0.0..=1.0).contains(&x)),
            Bounds::ThrottledReplicas => throttled_replicas(text),
        };
        if !inside {
            return Err(invalid(self.bounds_text()));
        }
        match self.refusal(text) {
            Some(reason) => Err(ConfigError::Refused { name: self.name, found: clip(value), reason }),
            None => Ok(()),
        }
    }

    /// Why Highwater does not take this value, which Kafka would.
    fn refusal(&self, text: &str) -> Option<&'static str> {
        if self.class == ConfigClass::Refused && text != self.default {
            return Some("tiered storage is not offered; leave it false");
        }
        None
    }
}

/// The items of a list, without blanks and empty ones.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `true` or `false` in any case, as Kafka takes it.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn throttled_replicas(text: &str) -> bool {
    let number = |part: &str| part.parse::<i32>().is_ok_and(|n| n >= 0);
    text == "*"
        || items(text)
            .all(|item| item.split_once(':').is_some_and(|(p, b)| number(p.trim()) && number(b.trim())))
}

/// The known name that looks most like an unknown one; none if none is close enough to be meant.
///
/// ```
/// use highwater_control::nearest;
/// assert_eq!(nearest("retention.sm", ["retention.ms", "segment.ms"]), Some("retention.ms"));
/// assert_eq!(nearest("banana", ["retention.ms"]), None);
/// ```
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name of any length comes from the network: only its start is compared.
    let name: String = name.chars().take(64).map(|c| if c == '_' || c == '-' { '.' } else { c }).collect();
    let name = name.to_ascii_lowercase();
    let limit = (name.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (edits(&name, candidate), candidate))
        .min()
        .filter(|(d, _)| *d <= limit)
        .map(|(_, c)| c)
}

/// How many single-character edits lie between two names (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A value as messages show it: no more than its start.
fn clip(text: &str) -> String {
    if text.chars().count() <= 128 {
        text.to_owned()
    } else {
        text.chars().take(128).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_its_bounds_names_bounds_and_default() {
        let text = check_topic_config("segment.bytes", "100").unwrap_err().to_string();
        assert!(text.contains("1048576") && text.contains("1073741824") && text.contains("100"), "{text}");
        let text = check_topic_config("segment.bytes", "9999999999").unwrap_err().to_string();
        assert!(text.contains("an INT"), "{text}");
    }

    #[test]
    fn values_at_the_bounds_are_accepted_and_one_beyond_refused() {
        for (name, good, bad) in [
            ("flush.messages", "1", "0"),
            ("min.cleanable.dirty.ratio", "1.0", "1.1"),
            ("compression.gzip.level", "-1", "0"),
            ("compression.gzip.level", "9", "10"),
            ("min.insync.replicas", "1", "0"),
            ("durability", "os", "never"),
            ("message.timestamp.type", "LogAppendTime", "logappendtime"),
            ("leader.replication.throttled.replicas", "0:1,1:2", "0-1"),
            ("leader.replication.throttled.replicas", "*", "*,0:1"),
            ("preallocate", "TRUE", "yes"),
            ("retention.bytes", "-5", "x"),
            ("min.cleanable.dirty.ratio", "0", "NaN"),
        ] {
            assert!(check_topic_config(name, good).is_ok(), "{name}={good}");
            assert!(check_topic_config(name, bad).is_err(), "{name}={bad}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_with_a_reason() {
        for (name, value) in [("remote.storage.enable", "true"), ("remote.storage.enable", " TRUE")] {
            assert!(matches!(check_topic_config(name, value), Err(ConfigError::Refused { .. })), "{name}");
        }
        assert!(check_topic_config("remote.storage.enable", "false").is_ok());
        assert!(check_topic_config("cleanup.policy", "").is_ok());
    }

    #[test]
    fn a_name_of_a_megabyte_is_not_echoed() {
        let text = check_topic_config(&"x".repeat(1 << 20), "1").unwrap_err().to_string();
        assert!(text.len() < 1000);
    }
}
