//! The service user's queries, and the shape of their rows.
