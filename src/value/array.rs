//! One-dimensional arrays in wire form, split into their elements, for `= ANY($1)`.
//!
//! The elements stay wire values of the array's element type, for [`super::DataType::read`]. Absent: dimensions and
//! bounds in the literal (`[1:2]={…}`), and more than one dimension; both are refused.

use super::{Format, ValueError, text};

/// Splits an array in wire form into its elements; `None` is NULL.
///
/// # Errors
/// 22P02 and 22P03 for what is no array, 0A000 for one of several dimensions.
pub fn array_elements(format: Format, wire: &[u8]) -> Result<Vec<Option<Vec<u8>>>, ValueError> {
    match format {
        Format::Text => literal(text::input(wire)?),
        Format::Binary => binary(wire).ok_or_else(ValueError::binary)?,
    }
}

fn multidimensional() -> ValueError {
    ValueError::new("0A000", "only one-dimensional arrays can be compared with a sealed column")
}

/// `array_recv`: dimensions, flags, element type, (length, lower bound), then each element with its length.
fn binary(wire: &[u8]) -> Option<Result<Vec<Option<Vec<u8>>>, ValueError>> {
    let mut rest = wire;
    let mut word = || -> Option<i32> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let (dimensions, flags, _element) = (word()?, word()?, word()?);
    if !matches!(flags, 0 | 1) {
        return None;
    }
    match dimensions {
        0 => return rest.is_empty().then(|| Ok(vec![])),
        1 => {}
        2..=6 => return Some(Err(multidimensional())),
        _ => return None,
    }
    let (count, _lower) = (u32::try_from(word()?).ok()?, word()?);
    let mut elements = vec![];
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        match i32::from_be_bytes(*head) {
            -1 => elements.push(None),
            length => {
                let (element, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                elements.push(Some(element.to_vec()));
                rest = tail;
            }
        }
    }
    rest.is_empty().then_some(Ok(elements))
}

/// `array_in`: `{a,"b\"c",NULL}`.
fn literal(input: &str) -> Result<Vec<Option<Vec<u8>>>, ValueError> {
    let malformed = || ValueError::new("22P02", "malformed array literal");
    let trimmed = text::trim(input);
    if trimmed.starts_with('[') {
        return Err(ValueError::new(
            "0A000",
            "array literals with explicit bounds cannot be compared with a sealed column",
        ));
    }
    let mut rest = trimmed.strip_prefix('{').ok_or_else(malformed)?;
    let mut elements = vec![];
    if text::trim(rest) == "}" {
        return Ok(elements);
    }
    loop {
        rest = rest.trim_start_matches(space);
        let (element, after) = match rest.as_bytes().first() {
            Some(b'"') => quoted(rest.get(1..).unwrap_or_default()).ok_or_else(malformed)?,
            Some(b'{') => return Err(multidimensional()),
            _ => bare(rest).ok_or_else(malformed)?,
        };
        elements.push(element);
        let after = after.trim_start_matches(space);
        if after == "}" {
            return Ok(elements);
        }
        rest = after.strip_prefix(',').ok_or_else(malformed)?;
    }
}

fn space(c: char) -> bool {
    u8::try_from(c).is_ok_and(text::is_space)
}

/// An element and what follows it.
type Element<'a> = (Option<Vec<u8>>, &'a str);

/// The opening quote is behind us.
fn quoted(rest: &str) -> Option<Element<'_>> {
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some((Some(value.into_bytes()), chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

/// Up to `,` or `}`; spaces at the end do not count unless they are escaped.
fn bare(rest: &str) -> Option<Element<'_>> {
    let mut value = String::new();
    let mut kept = 0;
    let mut escaped = false;
    let mut chars = rest.chars();
    let after = loop {
        let here = chars.as_str();
        match chars.next()? {
            ',' | '}' => break here,
            '"' | '{' => return None,
            '\\' => {
                escaped = true;
                value.push(chars.next()?);
                kept = value.len();
            }
            other => {
                value.push(other);
                if !space(other) {
                    kept = value.len();
                }
            }
        }
    };
    value.truncate(kept);
    if value.is_empty() {
        return None;
    }
    let null = !escaped && value.eq_ignore_ascii_case("null");
    Some(((!null).then(|| value.into_bytes()), after))
}
