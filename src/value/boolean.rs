//! `boolean`: canonical is one byte, 0 or 1.

use super::{DataType, Malformed, ValueError, text};

/// `boolin`: unique prefixes of true, false, yes, no, on, off, and 1 and 0.
pub(super) fn read_text(input: &str) -> Result<bool, ValueError> {
    match text::trim(input).to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Ok(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Ok(false),
        _ => Err(ValueError::syntax(DataType::Boolean)),
    }
}

/// `boolrecv`: one byte, anything but zero is true.
pub(super) fn read_binary(wire: &[u8]) -> Result<bool, ValueError> {
    match wire {
        [byte] => Ok(*byte != 0),
        _ => Err(ValueError::binary()),
    }
}

/// The truth in canonical bytes.
pub(super) fn of(canonical: &[u8]) -> Result<bool, Malformed> {
    match canonical {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed),
    }
}
