//! Cluster metadata as a value, and what may change it.
//!
//! [`Image`] is everything the cluster agrees on. [`apply`] makes the next image from a [`Command`], or refuses
//! it with a [`ControlError`]; it is pure, so whoever applies the same commands in the same order holds the same
//! image. [`encode_catalog`] and [`decode_catalog`] turn an image into a checksummed file and back. Which broker leads
//! and where replicas go is decided in `election.rs` and `placement.rs`; what a topic's settings mean, by
//! [`effective`]. [`KafkaMetadata`] makes an image from the records of Apache Kafka's metadata log.
//!
//! ```
//! use highwater_base::{BrokerEpoch, BrokerId, Uuid};
//! use highwater_control::{Applied, Command, Image, NewTopic, Registration, apply};
//!
//! let me = BrokerId::new(1);
//! let image = Image::new("MkU3OEVBNTcwNTJENDM2Qk");
//! let (image, applied) = apply(&image, &Command::RegisterBroker(Registration::new(me, "localhost", 9092)))?;
//! let Applied::BrokerRegistered { epoch, .. } = applied else { unreachable!() };
//! let (image, _) = apply(&image, &Command::UnfenceBroker { broker: me, epoch })?;
//! let new = NewTopic { partitions: 3, ..NewTopic::named("orders", Uuid::from_halves(7, 7)) };
//! let (image, _) = apply(&image, &Command::CreateTopic(new))?;
//! assert_eq!(image.topic("orders").unwrap().partitions.len(), 3);
//! # Ok::<(), highwater_control::ControlError>(())
//! ```
#![forbid(unsafe_code)]

mod apply;
mod borrowed;
mod catalog;
mod command;
mod election;
mod error;
mod image;
mod kafka;
mod placement;
mod topic_config;
mod topic_name;

pub use apply::apply;
pub use catalog::{CATALOG_FILE, CatalogError, decode_catalog, encode_catalog};
pub use command::{
    Applied, Command, ConfigOp, IsrChange, MAX_PARTITIONS_PER_COMMAND, NewTopic, PRODUCER_ID_BLOCK,
    Registration, TopicRef,
};
pub use error::ControlError;
pub use image::{Broker, BrokerState, Configs, Image, LeaderRecovery, PartitionState, Topic};
pub use kafka::{KafkaMetadata, MetadataError};
pub use topic_config::{
    ConfigClass, ConfigError, ConfigKind, ConfigSource, DurabilitySetting, NodeDefaults, ResolvedConfig,
    TimestampType, TopicConfig, TopicConfigDefinition, check_topic_config, effective, nearest,
    resolve_topic_config, topic_config, topic_config_of_broker, topic_configs,
};
pub use topic_name::{MAX_TOPIC_NAME, check_topic_name, is_internal};
