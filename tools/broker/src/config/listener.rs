//! `listeners` and `advertised.listeners`: of all that Kafka's syntax can say, one plaintext listener.

use std::fmt;

use super::ConfigError;
use super::definition::list;

/// A host (name or address) and a port.
///
/// ```
/// use highwater_broker::HostPort;
/// let at: HostPort = "[::1]:9092".parse().unwrap();
/// assert_eq!((at.host.as_str(), at.port), ("::1", 9092));
/// assert_eq!(at.to_string(), "[::1]:9092");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// A name or an address, without brackets; empty for every address of the machine.
    pub host: String,
    /// The port; 0 lets the system choose one.
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<HostPort, &'static str> {
        const EXPECTED: &str =
            "expected HOST:PORT, with an IPv6 address in brackets and a port from 0 to 65535";
        let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let port = port.parse().map_err(|_| EXPECTED)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or(EXPECTED)?,
            None if host.contains(':') => return Err(EXPECTED),
            None => host,
        };
        if host.len() > 255
            || host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | '[' | ']'))
        {
            return Err(EXPECTED);
        }
        Ok(HostPort { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The listener for clients: those named in `controller.listener.names` are not opened, since the controller is
/// inside; of the others there must be one, and its protocol must be PLAINTEXT. Also says its name.
pub(crate) fn client_listener(
    setting: &'static str,
    value: &str,
    controllers: Option<&str>,
    protocols: &str,
) -> Result<(String, HostPort), ConfigError> {
    let refused = |why| ConfigError::Unsupported { name: setting.into(), found: value.into(), why };
    let is_controller = |name: &str| controllers.is_some_and(|names| list(names).any(|n| n == name));
    let mut found = None;
    for listener in list(value) {
        let (name, address) = listener
            .split_once("://")
            .ok_or_else(|| refused("expected NAME://HOST:PORT, comma-separated"))?;
        if is_controller(name) {
            continue;
        }
        let mapped = list(protocols).filter_map(|pair| pair.split_once(':')).find(|(n, _)| *n == name);
        if mapped.map_or(name, |(_, protocol)| protocol) != "PLAINTEXT" {
            return Err(refused("only PLAINTEXT listeners can be opened; terminate TLS in front of it"));
        }
        let address = address.parse().map_err(refused)?;
        if found.replace((name.to_owned(), address)).is_some() {
            return Err(refused("expected one listener for clients (besides controller.listener.names)"));
        }
    }
    found.ok_or_else(|| refused("expected one listener for clients, found none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,OUT:SSL";

    #[test]
    fn the_listeners_of_kafkas_own_example_file_are_understood() {
        let value = "PLAINTEXT://:9092,CONTROLLER://:9093";
        let (name, at) = client_listener("listeners", value, Some("CONTROLLER"), MAP).unwrap();
        assert_eq!(name, "PLAINTEXT");
        assert_eq!(at, HostPort { host: String::new(), port: 9092 });
    }

    #[test]
    fn what_cannot_be_opened_is_refused() {
        for value in [
            "SSL://a:1",
            "OUT://a:1",
            "PLAINTEXT://a:1,B://b:2",
            "a:1",
            "",
            "PLAINTEXT://a",
            "PLAINTEXT://a:70000",
        ] {
            assert!(client_listener("listeners", value, None, MAP).is_err(), "{value}");
        }
    }

    #[test]
    fn an_address_must_be_whole() {
        for text in ["", "a", "a:", "::1:9", "[::1:9", "a b:9", "a/b:9"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
