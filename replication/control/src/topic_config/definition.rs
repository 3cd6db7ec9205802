//! What a setting is: name, type, default, bounds, class, and its names at the broker.

/// A setting's type, as DescribeConfigs tells it.
///
/// ```
/// assert_eq!(highwater_control::ConfigKind::Long.kafka_code(), 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Items between commas.
    List,
}

impl ConfigKind {
    /// The number of this type in the protocol.
    pub const fn kafka_code(self) -> i8 {
        match self {
            ConfigKind::Boolean => 1,
            ConfigKind::String => 2,
            ConfigKind::Int => 3,
            ConfigKind::Long => 5,
            ConfigKind::Double => 6,
            ConfigKind::List => 7,
        }
    }

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            ConfigKind::Boolean => "BOOLEAN",
            ConfigKind::String => "STRING",
            ConfigKind::Int => "INT",
            ConfigKind::Long => "LONG",
            ConfigKind::Double => "DOUBLE",
            ConfigKind::List => "LIST",
        }
    }
}

/// What Highwater does with a setting.
///
/// ```
/// use highwater_control::{ConfigClass, topic_config};
/// assert_eq!(topic_config("retention.ms").unwrap().class, ConfigClass::InEffect);
/// assert_eq!(topic_config("segment.jitter.ms").unwrap().class, ConfigClass::WithoutEffect);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigClass {
    /// It does what it says.
    InEffect,
    /// It is Kafka's, is stored and shown, and changes nothing here.
    WithoutEffect,
    /// It is Kafka's, and its default is the only value that is accepted.
    Refused,
}

/// Which values a setting takes, beyond its type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bounds {
    /// Any.
    Any,
    /// At least this.
    AtLeast(i64),
    /// Between these, both included, or exactly `or`.
    Between {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// One more.
        or: i64,
    },
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, or none.
    Subset(&'static [&'static str]),
    /// A fraction from 0 to 1.
    Fraction,
    /// `*`, or `partition:broker` items.
    ThrottledReplicas,
}

/// How a broker-level setting's number becomes the topic-level one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scale {
    /// As it is.
    One,
    /// Minutes to milliseconds; -1 stays -1.
    Minutes,
    /// Hours to milliseconds; -1 stays -1.
    Hours,
}

/// One topic setting of Kafka's (or ours: `durability`).
///
/// ```
/// let d = highwater_control::topic_config("retention.ms").unwrap();
/// assert_eq!((d.name, d.default), ("retention.ms", "604800000"));
/// assert_eq!(d.broker_name(), Some("log.retention.ms"));
/// ```
#[derive(Debug)]
pub struct TopicConfigDefinition {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ConfigKind,
    /// Its default, as text.
    pub default: &'static str,
    /// What we do with it.
    pub class: ConfigClass,
    /// What it means: unit first where it has one.
    pub doc: &'static str,
    pub(crate) bounds: Bounds,
    /// Names of the broker setting that is its default, strongest first.
    pub(crate) broker: &'static [(&'static str, Scale)],
}

impl TopicConfigDefinition {
    /// The broker setting that is this one's default, in the same unit; none if there is none.
    pub fn broker_name(&self) -> Option<&'static str> {
        self.broker.first().map(|(name, _)| *name)
    }

    /// All broker settings that decide this one's default, strongest first.
    pub fn broker_names(&self) -> impl Iterator<Item = &'static str> {
        self.broker.iter().map(|(name, _)| *name)
    }

    /// The bounds in words, for messages and documentation.
    pub fn bounds_text(&self) -> String {
        match self.bounds {
            Bounds::Any => match self.kind {
                ConfigKind::Boolean => "true or false".to_owned(),
                ConfigKind::Int => format!("from {} to {}", i32::MIN, i32::MAX),
                ConfigKind::Long => format!("from {} to {}", i64::MIN, i64::MAX),
                ConfigKind::String | ConfigKind::Double | ConfigKind::List => "any".to_owned(),
            },
            Bounds::AtLeast(min) => format!("at least {min}"),
            Bounds::Between { min, max, or } if (min..=max).contains(&or) => format!("from {min} to {max}"),
            Bounds::Between { min, max, or } => format!("from {min} to {max}, or {or}"),
            Bounds::OneOf(values) => format!("one of {}", values.join(", ")),
            Bounds::Subset(values) => format!("a list of {}", values.join(", ")),
            Bounds::Fraction => "from 0 to 1".to_owned(),
            Bounds::ThrottledReplicas => "'*' or a list of partition:broker".to_owned(),
        }
    }
}
