//! Settings: Kafka's own names, units and defaults, checked once and then plain values.
//!
//! Three classes: those in effect; Kafka's that have no effect here (taken, and named in one line of the log);
//! unknown or impossible ones, which are errors.

mod broker_table;
mod definition;
mod describe;
mod error;
mod listener;
mod partition;
mod properties;
mod settings;

pub(crate) use describe::Described;
pub use error::ConfigError;
pub use listener::HostPort;
pub use settings::{Settings, Source};

/// The pairs of a `server.properties` text, in order.
///
/// ```
/// let pairs = highwater_broker::parse_properties("# mine\nnum.partitions=3\n")?;
/// assert_eq!(pairs, [("num.partitions".to_string(), "3".to_string())]);
/// # Ok::<(), highwater_broker::ConfigError>(())
/// ```
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    properties::parse(text)
}
