//! Sealing what a statement carries: parameters at Bind, literals when the text is rendered.

use crate::catalog::Action;
use crate::crypto::{Cells, Ciphers, KeyVersion, Random};
use crate::plan::{ParameterUse, Reason, Recipe, Refusal, StatementPlan};
use crate::sql::literal::{Literal, decode};
use crate::value::{DETERMINISTIC_BYTES_MAX, DataType, Format, Style, ValueError, array_elements};
use crate::wire::frontend::Bind;
use zeroize::Zeroizing;

/// The server's parameters, in its order.
pub struct SealedBind {
    /// One for each parameter.
    pub formats: Vec<i16>,
    pub values: Vec<Option<Vec<u8>>>,
    /// (label, values) that are compared with a sealed column.
    pub compared: Vec<(String, u64)>,
    /// (label, cells) that were sealed.
    pub sealed: Vec<(String, u64)>,
}

/// A rendered statement.
pub struct SealedText {
    pub sql: String,
    /// (label, values) that are compared with a sealed column.
    pub compared: Vec<(String, u64)>,
    /// (label, cells) that were sealed.
    pub sealed: Vec<(String, u64)>,
}

/// What a value is sealed with.
struct Sealer<'a> {
    ciphers: &'a Ciphers,
    style: &'a Style,
    random: &'a mut dyn Random,
    compared: Vec<(String, u64)>,
    sealed: Vec<(String, u64)>,
}

fn add(counts: &mut Vec<(String, u64)>, label: &str) {
    match counts.iter_mut().find(|(known, _)| known == label) {
        Some((_, count)) => *count += 1,
        None => counts.push((label.to_owned(), 1)),
    }
}

impl Sealer<'_> {
    /// Reads a wire value and seals it; gives the envelope.
    fn seal(
        &mut self,
        recipe: &Recipe,
        sent: &DataType,
        format: Format,
        wire: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        if recipe.action == Action::Compare {
            comparable(recipe, sent)?;
            add(&mut self.compared, &recipe.domain.label);
        }
        let mut canonical = Zeroizing::new(Vec::with_capacity(wire.len() + 16));
        recipe
            .data_type
            .read(sent, format, wire, self.style, &mut canonical)
            .map_err(|error| value_refusal(&error, recipe))?;
        if recipe.action == Action::Compare && matches!(recipe.data_type, DataType::Numeric(Some(_))) {
            exact(recipe, sent, format, wire, self.style, &canonical)?;
        }
        let cipher = self.ciphers.by_domain.get(&recipe.domain.name);
        let cipher = cipher.ok_or_else(|| no_key(recipe))?;
        let deterministic = recipe.version.is_some();
        if deterministic && canonical.len() > DETERMINISTIC_BYTES_MAX {
            return Err(Refusal::new(
                Reason::Value,
                "54000",
                format!("value for column {} is longer than a deterministic cell can be", recipe.column_name),
            )
            .detail(format!("At most {DETERMINISTIC_BYTES_MAX} bytes fit an index entry.")));
        }
        let mut plain = Cells::new();
        plain.push(&canonical);
        let mut sealed = Cells::new();
        let version = recipe.version.map_or(cipher.current(), KeyVersion);
        cipher.seal(version, &plain, self.random, &mut sealed).map_err(|_| no_key(recipe))?;
        add(&mut self.sealed, &recipe.domain.label);
        Ok(sealed.get(0).to_vec())
    }

    fn elements(
        &mut self,
        recipe: &Recipe,
        declared: u32,
        format: Format,
        wire: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let sent = match (declared, format) {
            (0 | 705, _) => recipe.data_type,
            (oid, _) => DataType::from_array_oid(oid).ok_or_else(|| unknown_type(recipe))?,
        };
        let elements = array_elements(format, wire).map_err(|error| value_refusal(&error, recipe))?;
        let mut array = b"{".to_vec();
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                array.push(b',');
            }
            match element {
                None => array.extend_from_slice(b"NULL"),
                Some(element) => {
                    let cell = self.seal(recipe, &sent, format, element)?;
                    array.extend_from_slice(b"\"\\\\x");
                    array.extend_from_slice(faster_hex::hex_string(&cell).as_bytes());
                    array.push(b'"');
                }
            }
        }
        array.push(b'}');
        Ok(array)
    }
}

/// Seals the parameters of a Bind. `declared` are the client's parameter types, 0 or missing for unspecified.
///
/// # Errors
/// A value that does not fit its column, with PostgreSQL's SQLSTATE.
pub fn parameters(
    plan: &StatementPlan,
    declared: &[u32],
    bind: &Bind<'_>,
    ciphers: &Ciphers,
    style: &Style,
    random: &mut dyn Random,
) -> Result<SealedBind, Refusal> {
    let mut sealer = Sealer { ciphers, style, random, compared: vec![], sealed: vec![] };
    let mut formats = Vec::with_capacity(plan.parameters.len());
    let mut values = Vec::with_capacity(plan.parameters.len());
    if bind.parameters.len() != plan.client_parameters {
        return Err(Refusal::new(
            Reason::Value,
            "08P01",
            format!(
                "bind message supplies {} parameters, but the prepared statement requires {}",
                bind.parameters.len(),
                plan.client_parameters
            ),
        ));
    }
    for slot in &plan.parameters {
        let value = bind.parameters.get(slot.client).copied().flatten();
        let code = bind.parameter_format(slot.client);
        let format = if code == 1 { Format::Binary } else { Format::Text };
        let oid = declared.get(slot.client).copied().unwrap_or(0);
        let (format, value) = match (&slot.what, value) {
            (ParameterUse::Pass, value) => (code, value.map(<[u8]>::to_vec)),
            (_, None) => (0, None),
            (ParameterUse::Seal(recipe), Some(wire)) => {
                let sent = match oid {
                    0 | 705 => recipe.data_type,
                    oid => DataType::from_oid(oid).ok_or_else(|| unknown_type(recipe))?,
                };
                (1, Some(sealer.seal(recipe, &sent, format, wire)?))
            }
            (ParameterUse::SealElements(recipe), Some(wire)) => {
                (0, Some(sealer.elements(recipe, oid, format, wire)?))
            }
        };
        formats.push(format);
        values.push(value);
    }
    Ok(SealedBind { formats, values, compared: sealer.compared, sealed: sealer.sealed })
}

/// Renders the statement with its literals sealed; they are read from `text`, the client's whole message text.
///
/// # Errors
/// As [`parameters`].
pub fn literals(
    plan: &StatementPlan,
    text: &str,
    ciphers: &Ciphers,
    style: &Style,
    random: &mut dyn Random,
) -> Result<SealedText, Refusal> {
    let mut sealer = Sealer { ciphers, style, random, compared: vec![], sealed: vec![] };
    let sql = plan.render(|index, out| -> Result<(), Refusal> {
        let slot = plan.literals.get(index).ok_or_else(|| not_read(None))?;
        let token = text.get(slot.span.clone()).ok_or_else(|| not_read(Some(&slot.recipe)))?;
        let literal = decode(token).ok_or_else(|| not_read(Some(&slot.recipe)))?;
        let cell = literal_cell(&mut sealer, &slot.recipe, &literal)
            .map_err(|refusal| refusal.at(slot.span.start))?;
        out.push_str("'\\x");
        out.push_str(&faster_hex::hex_string(&cell));
        out.push('\'');
        Ok(())
    })?;
    Ok(SealedText { sql, compared: sealer.compared, sealed: sealer.sealed })
}

fn literal_cell(sealer: &mut Sealer<'_>, recipe: &Recipe, literal: &Literal) -> Result<Vec<u8>, Refusal> {
    let own = recipe.data_type;
    match literal {
        Literal::Text(text) => sealer.seal(recipe, &own, Format::Text, text.as_bytes()),
        Literal::Number(number) => {
            let integer = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'));
            let sent = match own {
                // As it is written: PostgreSQL would print the number.
                DataType::Text | DataType::Varchar(_) => own,
                DataType::Real | DataType::DoublePrecision | DataType::Numeric(_) => own,
                _ if integer => DataType::Bigint,
                _ => DataType::Numeric(None),
            };
            sealer.seal(recipe, &sent, Format::Text, number.as_bytes())
        }
        Literal::Bool(truth) => {
            sealer.seal(recipe, &DataType::Boolean, Format::Text, if *truth { b"t" } else { b"f" })
        }
    }
}

/// A comparison may not convert: an assignment cast could make unequal values equal.
fn comparable(recipe: &Recipe, sent: &DataType) -> Result<(), Refusal> {
    let own = recipe.data_type;
    let integer = |t: &DataType| matches!(t, DataType::Smallint | DataType::Integer | DataType::Bigint);
    let text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_));
    let number = |t: &DataType| integer(t) || matches!(t, DataType::Numeric(_));
    let same = std::mem::discriminant(&own) == std::mem::discriminant(sent)
        || (integer(&own) && integer(sent))
        || (text(&own) && text(sent))
        || (matches!(own, DataType::Numeric(_)) && number(sent));
    if same {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::Value,
        "42883",
        format!("operator does not exist: {} = {}", own.sql(), sent.sql()),
    )
    .detail(format!("The value meets sealed column {}.", recipe.column_name))
    .hint("Give the value the column's type."))
}

/// A decimal with more places than the column keeps equals none of its values; rounding it would find some.
fn exact(
    recipe: &Recipe,
    sent: &DataType,
    format: Format,
    wire: &[u8],
    style: &Style,
    rounded: &[u8],
) -> Result<(), Refusal> {
    let mut whole = Zeroizing::new(vec![]);
    let free = DataType::Numeric(None);
    let sent = if matches!(sent, DataType::Numeric(_)) { &free } else { sent };
    free.read(sent, format, wire, style, &mut whole).map_err(|error| value_refusal(&error, recipe))?;
    let normal = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    if normal(&whole) == normal(rounded) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::Value,
        "0A000",
        format!(
            "comparison of sealed column {} with a value of more decimal places is not supported",
            recipe.column_name
        ),
    )
    .hint("No stored value can equal it: round it first."))
}

fn value_refusal(error: &ValueError, recipe: &Recipe) -> Refusal {
    Refusal::new(Reason::Value, error.sqlstate, error.message.clone())
        .detail(format!("The value is for column {}.", recipe.column_name))
}

fn unknown_type(recipe: &Recipe) -> Refusal {
    Refusal::new(
        Reason::Value,
        "42804",
        format!("a parameter of this type cannot be sealed for column {}", recipe.column_name),
    )
    .hint(format!("Declare it as {} or leave its type unspecified.", recipe.data_type.sql()))
}

fn no_key(recipe: &Recipe) -> Refusal {
    Refusal::new(Reason::Broken, "55000", format!("the keyring has no key for column {}", recipe.column_name))
        .hint("Run \"pgveil init\", or restore the keyring.")
}

fn not_read(recipe: Option<&Recipe>) -> Refusal {
    let column = recipe.map_or("a sealed column", |recipe| recipe.column_name.as_str());
    Refusal::new(
        Reason::NotUnderstood,
        "0A000",
        format!("this spelling of a constant is not supported for column {column}"),
    )
    .hint("Write it as '…' or pass it as a parameter.")
}
