//! `json` (validated, kept as written) and `jsonb` (normalised as PostgreSQL prints it).

use super::{DataType, ValueError};
use serde_json::Value as Json;

fn parse(data_type: DataType, text: &str) -> Result<Json, ValueError> {
    serde_json::from_str(text).map_err(|_| ValueError::syntax(data_type))
}

pub(super) fn validate(text: &str) -> Result<(), ValueError> {
    parse(DataType::Json, text).map(|_| ())
}

/// Keys ordered by length and then bytes, the last of equal keys kept, one space after `:` and `,`
/// (`jsonb_util.c` `lengthCompareJsonbStringValue`, `jsonb.c` `JsonbToCString`).
pub(super) fn normalise(text: &str) -> Result<String, ValueError> {
    let value = parse(DataType::Jsonb, text)?;
    let mut out = String::with_capacity(text.len());
    print(&value, &mut out)?;
    Ok(out)
}

fn print(value: &Json, out: &mut String) -> Result<(), ValueError> {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&super::numeric::read_text(&number.to_string(), None)?),
        Json::String(text) => string(text, out)?,
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                print(item, out)?;
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                string(key, out)?;
                out.push_str(": ");
                print(&members[key], out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut String) -> Result<(), ValueError> {
    if text.contains('\0') {
        return Err(ValueError::new("22P05", "unsupported Unicode escape sequence"));
    }
    let quoted = serde_json::to_string(text).map_err(|_| ValueError::syntax(DataType::Jsonb))?;
    out.push_str(&quoted);
    Ok(())
}
