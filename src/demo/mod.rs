//! The private PostgreSQL and the guided tour.
