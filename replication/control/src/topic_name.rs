//! Which topic names are legal, and which would collide.

use crate::ControlError;

/// Longest topic name, in bytes: a partition's directory `<topic>-<number>.<32 hex>-delete` must fit in 255.
pub const MAX_TOPIC_NAME: usize = 249;

/// Checks a topic's name by Kafka's rules: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
///
/// ```
/// use highwater_control::check_topic_name;
/// assert!(check_topic_name("orders.eu_1").is_ok());
/// assert!(check_topic_name("..").is_err());
/// ```
pub fn check_topic_name(name: &str) -> Result<(), ControlError> {
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > MAX_TOPIC_NAME {
        let start: String = name.chars().take(32).collect();
        format!(
            "the length of '{start}...' is {}, longer than the max allowed length {MAX_TOPIC_NAME}",
            name.len()
        )
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(ControlError::InvalidTopicName { reason })
}

/// The form under which two names collide: metric names write `.` as `_`, so `a.b` and `a_b` are one.
pub(crate) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether a topic of this name belongs to the broker itself.
///
/// ```
/// assert!(highwater_control::is_internal("__consumer_offsets"));
/// assert!(!highwater_control::is_internal("orders"));
/// ```
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_up_to_249_bytes_are_legal_and_no_longer() {
        assert!(check_topic_name(&"a".repeat(249)).is_ok());
        let error = check_topic_name(&"a".repeat(250)).unwrap_err();
        assert!(error.to_string().contains("250"), "{error}");
        assert!(error.to_string().contains("249"), "{error}");
    }

    #[test]
    fn empty_dots_spaces_slashes_and_umlauts_are_refused() {
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a:b"] {
            assert!(check_topic_name(name).is_err(), "{name:?} was accepted");
        }
        for name in ["...", "a.b", "-", "_", "A9"] {
            assert!(check_topic_name(name).is_ok(), "{name:?} was refused");
        }
    }

    #[test]
    fn dot_and_underscore_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a-b"), collision_key("a_b"));
    }
}
