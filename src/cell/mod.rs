//! Carrying out a plan on bytes: sealing parameters and literals, opening and masking rows.
