//! Sockets, TLS, the pump, upstream, cancel keys, reload, admin endpoint, shutdown.

pub mod admin;
pub mod prepare;
pub mod service;
mod service_tls;
pub mod settings;
pub mod cancel;
pub mod startup;
pub mod stream;
pub mod tls;
pub mod upstream;
