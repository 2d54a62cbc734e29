//! Every counter, in one struct, with its help text.
