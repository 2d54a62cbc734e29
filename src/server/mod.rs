//! Sockets, TLS, the pump, upstream, cancel keys, reload, admin endpoint, shutdown.

pub mod admin;
pub mod prepare;
pub mod service;
pub mod settings;
