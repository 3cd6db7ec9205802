//! The Highwater broker: connections, one handler an API, and the shards they run on.
//!
//! [`Settings`] are Kafka's own, checked; [`Broker::start`] claims the data directories, starts one shard a core and
//! returns when every partition is open and connections are accepted.
//!
//! ```no_run
//! use highwater_broker::{Broker, Settings, Source};
//! let settings = Settings::from_sources(&[
//!     (Source::Flag, "log.dirs".into(), "/var/lib/highwater".into()),
//!     (Source::Flag, "listeners".into(), "PLAINTEXT://127.0.0.1:0".into()),
//! ])?;
//! let broker = Broker::start(settings, "127.0.0.1:0".parse()?, "localhost")?;
//! println!("serving on {}", broker.address());
//! broker.stopper().stop();
//! broker.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod adopt;
mod broker;
mod call;
mod config;
mod connection;
mod ctx;
mod errors;
mod fetch_sessions;
mod handlers;
mod log;
mod mail;
mod message;
mod pending;
mod receive;
mod session;
mod shard;
mod slots;
mod storage;

pub use adopt::{AdoptReport, adopt_check, adopt_keep};
pub use broker::{Broker, StartError, StopError, Stopper};
pub use config::{ConfigError, HostPort, Settings, Source, parse_properties};
pub use storage::StorageError;
