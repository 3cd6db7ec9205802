//! Who is at the other end of a connection.

use std::sync::Arc;

/// What a handler may know of the connection that a request came over.
///
/// Every handler gets one, from the first commit on, so that authentication and authorization are added to
/// the session and not threaded through the handlers later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    /// Name of the listener that accepted the connection, for example `PLAINTEXT`.
    pub(crate) listener: Arc<str>,
    /// Who the client is; `User:ANONYMOUS`, as Kafka calls it, where nobody asked.
    pub(crate) principal: Arc<str>,
}

impl Session {
    /// The session of a client that did not say who it is.
    pub(crate) fn anonymous(listener: &str) -> Session {
        Session { listener: listener.into(), principal: "User:ANONYMOUS".into() }
    }
}
