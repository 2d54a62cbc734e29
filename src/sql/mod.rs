//! SQL text → what it means for tagged columns. The only place that names `sqlparser`.

pub mod agree;
pub mod echo;
pub mod lex;
mod spelling;
