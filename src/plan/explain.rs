//! The text form of a plan: what `pgveil explain` prints and golden files hold.
