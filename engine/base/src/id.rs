//! Names of brokers, topics, partitions and producers.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// "None": -1, as Kafka writes it.
            pub const NONE: $name = $name(-1);

            /// The id with this number.
            pub const fn new(value: $int) -> $name {
                $name(value)
            }

            /// The bare number, for the wire and for files.
            pub const fn get(self) -> $int {
                self.0
            }

            /// Whether this names something, that is, is not negative.
            pub const fn is_some(self) -> bool {
                self.0 >= 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// A broker (Kafka's `node.id`).
    ///
    /// ```
    /// assert!(!highwater_base::BrokerId::NONE.is_some());
    /// ```
    BrokerId(i32)
}
id! {
    /// The number of a partition within its topic, from 0.
    ///
    /// ```
    /// assert_eq!(highwater_base::PartitionIndex::new(2).get(), 2);
    /// ```
    PartitionIndex(i32)
}
id! {
    /// An idempotent producer's id.
    ///
    /// ```
    /// assert!(highwater_base::ProducerId::new(1000).is_some());
    /// ```
    ProducerId(i64)
}

/// A topic's name and a partition's number.
///
/// ```
/// use highwater_base::{PartitionIndex, TopicPartition};
/// let tp = TopicPartition::new("orders", PartitionIndex::new(3));
/// assert_eq!(tp.to_string(), "orders-3");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: std::sync::Arc<str>,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// This partition of this topic.
    pub fn new(topic: impl Into<std::sync::Arc<str>>, partition: PartitionIndex) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// 128 bits that name a topic, a directory or a cluster; its text is URL-safe base64 without padding, as
/// Kafka writes it (22 characters).
///
/// ```
/// use highwater_base::Uuid;
/// let id = Uuid::from_halves(1, 2);
/// assert_eq!(id.to_string().parse::<Uuid>().unwrap(), id);
/// assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// All zero: "no id".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// From the 16 big-endian bytes of files and wire.
    pub const fn from_bytes(bytes: [u8; 16]) -> Uuid {
        Uuid(bytes)
    }

    /// From two halves, most significant first.
    pub fn from_halves(high: u64, low: u64) -> Uuid {
        Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// The 16 big-endian bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// A random (version 4) id that is not among Kafka's reserved ones and whose text does not begin with
    /// `-`, which command lines take for a flag.
    pub fn random(prng: &mut crate::Prng) -> Uuid {
        loop {
            let mut bytes = Uuid::from_halves(prng.next_u64(), prng.next_u64()).0;
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let id = Uuid(bytes);
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        for i in 0..22 {
            // 128 bits are 21 groups of six and one of two, which is padded with four zero bits.
            let group = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 } & 0x3f;
            write!(f, "{}", char::from(ALPHABET[group as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`Uuid`].
///
/// ```
/// assert!("short".parse::<highwater_base::Uuid>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UuidError {
    /// What was found in place of 22 characters of URL-safe base64.
    pub found: String,
}

impl fmt::Display for UuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected 22 characters of URL-safe base64 (a Kafka UUID), found {:?}", self.found)
    }
}

impl std::error::Error for UuidError {}

impl std::str::FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Uuid, UuidError> {
        let error = || UuidError { found: text.chars().take(64).collect() };
        let text = text.as_bytes();
        if text.len() != 22 {
            return Err(error());
        }
        let mut bits = 0u128;
        for (i, byte) in text.iter().enumerate() {
            let group = ALPHABET.iter().position(|a| a == byte).ok_or_else(error)? as u128;
            bits = if i < 21 { bits << 6 | group } else { bits << 2 | group >> 4 };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uuid_survives_its_text() {
        let mut prng = crate::Prng::new(7);
        for _ in 0..1000 {
            let id = Uuid::random(&mut prng);
            assert_eq!(id.to_string().parse::<Uuid>(), Ok(id));
        }
    }

    #[test]
    fn a_text_with_a_foreign_character_is_refused() {
        assert!("AAAAAAAAAAAAAAAAAAAAA=".parse::<Uuid>().is_err());
    }
}
