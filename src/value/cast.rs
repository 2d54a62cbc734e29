//! PostgreSQL's assignment casts between the types (`pg_cast`): what a client sent as one type, stored as another.
//!
//! Everything may be assigned to text, through its text form. Absent: casts that must be written out (`text` to
//! anything, `integer` to `boolean`); they are 42804 here as they are there.

use super::datetime::{self, MICROS_DAY};
use super::interval::Parts;
use super::{
    DataType, Format, Malformed, Style, ValueError, boolean, float, inet, integer, json, numeric, text,
};
use zeroize::Zeroizing;

/// Types that one input routine serves.
pub(super) fn same_input(a: &DataType, b: &DataType) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
        || (is_integer(a) && is_integer(b))
        || (is_text(a) && is_text(b))
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Smallint | DataType::Integer | DataType::Bigint)
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Real | DataType::DoublePrecision)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(_))
}

/// Reads a value of type `sent` and appends the canonical bytes that its cast to `target` has.
pub(super) fn read(
    target: &DataType,
    sent: &DataType,
    format: Format,
    wire: &[u8],
    style: &Style,
    canonical: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if !allowed(sent, target) {
        let (to, from) = (target.family_name(), sent.family_name());
        return Err(ValueError::new(
            "42804",
            format!("column is of type {to} but expression is of type {from}"),
        ));
    }
    let mut own = Zeroizing::new(vec![]);
    sent.read_own(format, wire, style, &mut own)?;
    if is_text(target) {
        let shown = as_text(sent, &own, style).map_err(|Malformed| ValueError::binary())?;
        return target.read_own(Format::Text, &shown, style, canonical);
    }
    let cast = match target {
        DataType::Numeric(typmod) => to_numeric(*typmod, sent, &own),
        DataType::Smallint | DataType::Integer | DataType::Bigint => to_integer(*target, sent, &own),
        DataType::Real | DataType::DoublePrecision => to_float(*target, sent, &own),
        DataType::Json => Ok(own.to_vec()),
        DataType::Jsonb => text::input(&own).and_then(|text| Ok(json::normalise(text)?.into_bytes())),
        _ => temporal(*target, *sent, &own, style),
    };
    canonical.extend_from_slice(&Zeroizing::new(cast?));
    Ok(())
}

/// The assignment and implicit casts of `pg_cast` between our types.
fn allowed(sent: &DataType, target: &DataType) -> bool {
    use DataType::{Date, Interval, Json, Jsonb, Numeric, Time, Timestamp, Timestamptz};
    let number = |data_type: &DataType| {
        is_integer(data_type) || is_float(data_type) || matches!(data_type, Numeric(_))
    };
    is_text(target)
        || (number(sent) && number(target))
        || matches!(
            (sent, target),
            (Date, Timestamp | Timestamptz)
                | (Timestamp, Date | Time | Timestamptz)
                | (Timestamptz, Date | Time | Timestamp)
                | (Time, Interval)
                | (Interval, Time)
                | (Json, Jsonb)
                | (Jsonb, Json)
        )
}

/// The text form, or what the type's own cast to `text` gives where it has one.
fn as_text(sent: &DataType, own: &[u8], style: &Style) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let mut shown = Zeroizing::new(vec![]);
    match sent {
        DataType::Boolean => {
            shown.extend_from_slice(if boolean::of(own)? { b"true".as_slice() } else { b"false" })
        }
        DataType::Inet => shown.extend_from_slice(inet::write_text(own, true)?.as_bytes()),
        _ => sent.write(own, Format::Text, style, &mut shown)?,
    }
    Ok(shown)
}

fn broken(_: Malformed) -> ValueError {
    ValueError::binary()
}

fn to_numeric(typmod: Option<(u16, i16)>, sent: &DataType, own: &[u8]) -> Result<Vec<u8>, ValueError> {
    let text = if is_float(sent) {
        let value = float::of(*sent, own).map_err(broken)?;
        if value.is_finite() { float::significant(*sent, value) } else { float::write_text(*sent, value) }
    } else {
        integer::of(own).map_err(broken)?.to_string()
    };
    Ok(numeric::read_text(&text, typmod)?.into_bytes())
}

fn to_integer(target: DataType, sent: &DataType, own: &[u8]) -> Result<Vec<u8>, ValueError> {
    let value = if is_float(sent) {
        // `rint`: half to even, unlike numeric.
        let value = float::of(*sent, own).map_err(broken)?.round_ties_even();
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
            return Err(integer::out_of_range(target));
        }
        integer::cast(target, value as i64)?
    } else {
        numeric::to_integer(text::input(own)?, target)?
    };
    Ok(value.to_be_bytes().to_vec())
}

fn to_float(target: DataType, sent: &DataType, own: &[u8]) -> Result<Vec<u8>, ValueError> {
    let real = target == DataType::Real;
    if is_integer(sent) {
        let value = integer::of(own).map_err(broken)?;
        // Rounded once, from the integer.
        return Ok(if real {
            (value as f32).to_be_bytes().to_vec()
        } else {
            (value as f64).to_be_bytes().to_vec()
        });
    }
    let value = match sent {
        DataType::Numeric(_) => float::read_text(target, text::input(own)?)?,
        _ => float::of(*sent, own).map_err(broken)?,
    };
    Ok(if real { float::narrow(value)?.to_be_bytes().to_vec() } else { value.to_be_bytes().to_vec() })
}

/// Between dates, times and their kin, the session's zone in between where one side has it.
fn temporal(target: DataType, sent: DataType, own: &[u8], style: &Style) -> Result<Vec<u8>, ValueError> {
    let local = match sent {
        DataType::Date => datetime::date_to_timestamp(datetime::days_of(own).map_err(broken)?)?,
        DataType::Timestamp => datetime::micros_of(own).map_err(broken)?,
        DataType::Timestamptz => {
            datetime::instant_to_local(datetime::micros_of(own).map_err(broken)?, style)?
        }
        DataType::Time => {
            let mut interval = vec![];
            Parts { micros: datetime::time_of(own).map_err(broken)?, ..Parts::default() }.put(&mut interval);
            return Ok(interval);
        }
        // An interval's months and days do not count; a negative time is the evening before.
        _ => {
            let micros = Parts::of(own).map_err(broken)?.micros;
            return Ok(micros.rem_euclid(MICROS_DAY).to_be_bytes().to_vec());
        }
    };
    match target {
        DataType::Date => Ok(datetime::timestamp_to_date(local)?.to_be_bytes().to_vec()),
        DataType::Timestamptz => Ok(datetime::local_to_instant(local, style)?.to_be_bytes().to_vec()),
        DataType::Time if local == i64::MAX || local == i64::MIN => {
            Err(ValueError::new("0A000", "an infinite timestamp has no time of day"))
        }
        DataType::Time => Ok(local.rem_euclid(MICROS_DAY).to_be_bytes().to_vec()),
        _ => Ok(local.to_be_bytes().to_vec()),
    }
}
