//! What each mask shows of a value. Works on canonical bytes and keeps the value's logical type.

use super::Mask;
use crate::value::DataType;

impl Mask {
    /// Whether the mask can be shown as `data_type` (a partial text mask of an integer cannot).
    pub fn fits(&self, _data_type: &DataType) -> bool {
        todo!()
    }
    /// Appends the canonical bytes of the masked value. `fingerprint_key` is for `hash`.
    /// `None` when the masked value is NULL.
    pub fn apply(
        &self,
        _data_type: &DataType,
        _canonical: &[u8],
        _fingerprint_key: &[u8],
        _out: &mut Vec<u8>,
    ) -> Option<()> {
        todo!()
    }
    /// The same mask as an SQL expression over `column` (already quoted), of the logical type, for guarded clear columns.
    /// `None` when SQL cannot express it (`hash`).
    pub fn sql(&self, _data_type: &DataType, _column: &str) -> Option<String> {
        todo!()
    }
}
