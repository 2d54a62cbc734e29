//! SQL text → what it means for tagged columns. The only place that names `sqlparser`.
