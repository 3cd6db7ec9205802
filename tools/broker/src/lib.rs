//! The Highwater broker: connections and one handler an API.
#![forbid(unsafe_code)]
