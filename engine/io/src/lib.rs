//! The I/O seam of Highwater: files and sockets by submission and completion.
