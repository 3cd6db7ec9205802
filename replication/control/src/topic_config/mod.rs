//! Topic settings: the table of them, which values are legal, and which value holds.

mod check;
mod definition;
mod effective;
mod table;

pub(crate) use check::items;
pub use check::{ConfigError, check_topic_config, nearest};
pub use definition::{ConfigClass, ConfigKind, TopicConfigDefinition};
pub use effective::{
    ConfigSource, DurabilitySetting, NodeDefaults, ResolvedConfig, TimestampType, TopicConfig, effective,
    resolve_topic_config,
};
pub(crate) use effective::{Held, scaled};
pub use table::{topic_config, topic_config_of_broker, topic_configs};
