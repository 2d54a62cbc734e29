//! Rows of the database and tags → [`Catalog`](super::Catalog). Pure.
