//! Files → serde shapes → validated domain values; the only place with serde shapes.
