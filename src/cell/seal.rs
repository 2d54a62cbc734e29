//! Sealing what a statement carries: parameters at Bind, literals when the text is rendered.

use crate::catalog::{Action, ByLabel, Seal};
use crate::crypto::{Batch, CellCipher, Cells, Ciphers, KeyVersion, Random};
use crate::plan::{ParameterUse, Piece, Reason, Recipe, Refusal, StatementPlan};
use crate::sql::literal::{Literal, decode};
use crate::value::{DETERMINISTIC_BYTES_MAX, DataType, Format, Style, ValueError, array_elements};
use crate::wire::frontend::Bind;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The server's parameters, in its order.
pub struct SealedBind<'b> {
    /// One for each parameter.
    pub formats: Vec<i16>,
    values: Vec<Parameter<'b>>,
    cells: Cells,
    /// (label, values) that are compared with a sealed column.
    pub compared: ByLabel,
    /// (label, cells) that were sealed.
    pub sealed: ByLabel,
}

/// What goes to the server of a parameter.
enum Parameter<'b> {
    Null,
    /// What the client sent.
    Same(&'b [u8]),
    /// The place of its cell.
    Cell(usize),
    /// Its elements are sealed.
    Array(Vec<u8>),
}

impl SealedBind<'_> {
    /// One for each parameter; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.values.iter().map(|value| match value {
            Parameter::Null => None,
            Parameter::Same(bytes) => Some(*bytes),
            Parameter::Cell(place) => Some(self.cells.get(*place)),
            Parameter::Array(text) => Some(text.as_slice()),
        })
    }
}

/// A rendered statement.
pub struct SealedText {
    pub sql: String,
    /// (label, values) that are compared with a sealed column.
    pub compared: ByLabel,
    /// (label, cells) that were sealed.
    pub sealed: ByLabel,
}

/// What values are sealed with: those that were read wait in `plain`.
pub(super) struct Sealer<'a> {
    ciphers: &'a Ciphers,
    style: &'a Style,
    random: &'a mut dyn Random,
    pub(super) plain: Cells,
    pub(super) cells: Cells,
    compared: ByLabel,
    pub(super) sealed: ByLabel,
}

fn add(counts: &mut ByLabel, label: &Arc<str>, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    match counts.iter_mut().find(|(known, _)| known == label) {
        Some((_, known)) => *known += count,
        None => counts.push((label.clone(), count)),
    }
}

impl<'a> Sealer<'a> {
    pub(super) fn new(ciphers: &'a Ciphers, style: &'a Style, random: &'a mut dyn Random) -> Sealer<'a> {
        let (plain, cells) = (Cells::new(), Cells::new());
        Sealer { ciphers, style, random, plain, cells, compared: vec![], sealed: vec![] }
    }

    /// Reads a wire value into the batch; `sent` is its type, `None` when it has none of its own.
    pub(super) fn read(
        &mut self,
        recipe: &Recipe,
        sent: Option<&DataType>,
        format: Format,
        wire: &[u8],
    ) -> Result<(), Refusal> {
        let (sent, format, wire) = cast(recipe, sent, format, wire);
        let own = if sent.is_some() { recipe.data_type } else { recipe.untyped };
        let sent = sent.unwrap_or(&own);
        if recipe.action == Action::Compare {
            comparable(recipe, sent)?;
        }
        // Few forms are longer than what was sent.
        self.plain.reserve(2 * wire.len());
        let style = self.style;
        let read = self.plain.push_with(|canonical| own.read(sent, format, wire, style, canonical));
        read.map_err(|error| value_refusal(&error, recipe))?;
        let canonical = self.plain.get(self.plain.len() - 1);
        // A cast that the statement writes rounds there, too.
        let rounds = matches!(recipe.cast, Some(DataType::Numeric(Some(_))));
        if recipe.action == Action::Compare && matches!(own, DataType::Numeric(Some(_))) && !rounds {
            exact(recipe, sent, format, wire, style, canonical)?;
        }
        if recipe.domain.seal == Seal::Deterministic && canonical.len() > DETERMINISTIC_BYTES_MAX {
            return Err(Refusal::new(
                Reason::Value,
                "54000",
                format!("value for column {} is longer than a deterministic cell can be", recipe.column_name),
            )
            .detail(format!("At most {DETERMINISTIC_BYTES_MAX} bytes fit an index entry.")));
        }
        Ok(())
    }

    /// Seals the batch into `cells`.
    pub(super) fn seal(&mut self, recipe: &Recipe) -> Result<(), Refusal> {
        let (cipher, version) = cipher(self.ciphers, recipe)?;
        self.cells.clear();
        cipher.seal(version, &self.plain, self.random, &mut self.cells).map_err(|_| no_key(recipe))?;
        self.plain.clear();
        self.count(recipe, self.cells.len());
        Ok(())
    }

    fn count(&mut self, recipe: &Recipe, cells: usize) {
        let label = &recipe.domain.label;
        add(&mut self.sealed, label, cells);
        if recipe.action == Action::Compare {
            add(&mut self.compared, label, cells);
        }
    }

    /// Seals what was read, which is of these recipes, one batch for each key; gives for each value the place of its
    /// envelope in `cells`.
    fn seal_each(&mut self, recipes: &[&Recipe]) -> Result<Vec<usize>, Refusal> {
        if let [recipe] = recipes {
            self.seal(recipe)?;
            return Ok(vec![0]);
        }
        let mut places: Vec<Option<usize>> = vec![None; recipes.len()];
        let mut spans = vec![];
        self.cells.clear();
        for (first, recipe) in recipes.iter().enumerate() {
            if places[first].is_some() {
                continue;
            }
            let (cipher, version) = cipher(self.ciphers, recipe)?;
            let plain = self.plain.batch();
            spans.clear();
            let rest = recipes.iter().zip(&mut places).zip(plain.spans).skip(first);
            for ((other, place), span) in rest {
                if place.is_none()
                    && other.domain.name == recipe.domain.name
                    && other.version == recipe.version
                {
                    *place = Some(self.cells.len() + spans.len());
                    spans.push(*span);
                }
            }
            let batch = Batch { spans: &spans, ..plain };
            cipher.seal_batch(version, batch, self.random, &mut self.cells).map_err(|_| no_key(recipe))?;
        }
        self.plain.clear();
        recipes.iter().for_each(|recipe| self.count(recipe, 1));
        Ok(places.into_iter().flatten().collect())
    }

    /// All elements of an array in a batch of their own; gives the array in text form.
    fn elements(
        &mut self,
        recipe: &Recipe,
        declared: u32,
        format: Format,
        wire: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let sent = match declared {
            0 | UNKNOWN => None,
            oid => Some(DataType::from_array_oid(oid).ok_or_else(|| unknown_type(recipe))?),
        };
        let elements = array_elements(format, wire).map_err(|error| value_refusal(&error, recipe))?;
        let elements: Vec<_> = elements.into_iter().map(|element| element.map(Zeroizing::new)).collect();
        let waiting = std::mem::take(&mut self.plain);
        for element in elements.iter().flatten() {
            let element = if declared == BPCHAR_ARRAY { unpadded(element) } else { element };
            self.read(recipe, sent.as_ref(), format, element)?;
        }
        self.seal(recipe)?;
        self.plain = waiting;
        let mut cells = self.cells.iter();
        let mut array = b"{".to_vec();
        for (index, element) in elements.iter().enumerate() {
            if index > 0 {
                array.push(b',');
            }
            match element.as_ref().and_then(|_| cells.next()) {
                None => array.extend_from_slice(b"NULL"),
                Some(cell) => {
                    array.extend_from_slice(b"\"\\\\x");
                    array.extend_from_slice(faster_hex::hex_string(cell).as_bytes());
                    array.push(b'"');
                }
            }
        }
        array.push(b'}');
        Ok(array)
    }
}

fn cipher<'c>(ciphers: &'c Ciphers, recipe: &Recipe) -> Result<(&'c CellCipher, KeyVersion), Refusal> {
    let cipher = ciphers.by_domain.get(&recipe.domain.name).ok_or_else(|| no_key(recipe))?;
    Ok((cipher, recipe.version.map_or(cipher.current(), KeyVersion)))
}

/// Applies the cast that the statement writes, as far as it does more than an assignment: text is the input form of any
/// type, and what is cast to `varchar(n)` is cut.
fn cast<'s, 'w>(
    recipe: &Recipe,
    sent: Option<&'s DataType>,
    format: Format,
    wire: &'w [u8],
) -> (Option<&'s DataType>, Format, &'w [u8]) {
    let text = |data_type: &DataType| matches!(data_type, DataType::Text | DataType::Varchar(_));
    match recipe.cast {
        Some(DataType::Varchar(Some(length))) if sent.is_none_or(text) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let end = std::str::from_utf8(wire)
                .ok()
                .and_then(|text| text.char_indices().nth(length))
                .map_or(wire.len(), |(end, _)| end);
            (sent, format, wire.get(..end).unwrap_or(wire))
        }
        Some(to) if !text(&to) && (recipe.as_text.is_some() || sent.is_some_and(text)) => {
            (None, Format::Text, wire)
        }
        _ => (sent, format, wire),
    }
}

/// OIDs (`pg_type.dat`) of what has no type yet, and of `character(n)`.
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const BPCHAR_ARRAY: u32 = 1014;

/// `character(n)` loses its padding where it becomes text (`rtrim1`, `pg_cast.dat`).
fn unpadded(wire: &[u8]) -> &[u8] {
    let end = wire.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    wire.get(..end).unwrap_or_default()
}

/// Seals the parameters of a Bind. `declared` are the client's parameter types, 0 or missing for unspecified.
///
/// # Errors
/// A value that does not fit its column, with PostgreSQL's SQLSTATE.
pub fn parameters<'b>(
    plan: &StatementPlan,
    declared: &[u32],
    bind: &Bind<'b>,
    ciphers: &Ciphers,
    style: &Style,
    random: &mut dyn Random,
) -> Result<SealedBind<'b>, Refusal> {
    let mut sealer = Sealer::new(ciphers, style, random);
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
    // All values wait for the last one, and are sealed together.
    let (mut recipes, mut waiting) = (vec![], vec![]);
    for slot in &plan.parameters {
        let value = bind.parameters.get(slot.client).copied().flatten();
        let code = bind.parameter_format(slot.client);
        let format = if code == 1 { Format::Binary } else { Format::Text };
        let oid = declared.get(slot.client).copied().unwrap_or(0);
        let (format, value) = match (&slot.what, value) {
            (ParameterUse::Pass, Some(same)) => (code, Parameter::Same(same)),
            (ParameterUse::Pass, None) => (code, Parameter::Null),
            (_, None) => (0, Parameter::Null),
            (ParameterUse::Seal(recipe), Some(wire)) => {
                let sent = match oid {
                    0 | UNKNOWN => None,
                    oid => Some(DataType::from_oid(oid).ok_or_else(|| unknown_type(recipe))?),
                };
                let wire = if oid == BPCHAR { unpadded(wire) } else { wire };
                sealer.read(recipe, sent.as_ref(), format, wire)?;
                recipes.push(recipe);
                waiting.push(values.len());
                (1, Parameter::Null)
            }
            (ParameterUse::SealElements(recipe), Some(wire)) => {
                (0, Parameter::Array(sealer.elements(recipe, oid, format, wire)?))
            }
        };
        formats.push(format);
        values.push(value);
    }
    let places = sealer.seal_each(&recipes)?;
    for (at, place) in waiting.into_iter().zip(places) {
        values[at] = Parameter::Cell(place);
    }
    let Sealer { cells, compared, sealed, .. } = sealer;
    Ok(SealedBind { formats, values, cells, compared, sealed })
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
    let mut sealer = Sealer::new(ciphers, style, random);
    // All values wait for the last one, and are sealed together.
    let (mut recipes, mut arrays) = (vec![], vec![]);
    for piece in &plan.template {
        let Piece::Literal(index) = piece else { continue };
        let slot = plan.literals.get(*index).ok_or_else(|| not_read(None))?;
        let token = text.get(slot.span.clone()).ok_or_else(|| not_read(Some(&slot.recipe)))?;
        let literal = decode(token).ok_or_else(|| not_read(Some(&slot.recipe)))?;
        let at = |refusal: Refusal| refusal.at(slot.span.start);
        if slot.elements {
            let Literal::Text(array) = &literal else { return Err(not_read(Some(&slot.recipe))) };
            arrays.push(sealer.elements(&slot.recipe, 0, Format::Text, array.as_bytes()).map_err(at)?);
        } else {
            read_literal(&mut sealer, &slot.recipe, &literal).map_err(at)?;
            recipes.push(&slot.recipe);
        }
    }
    let mut places = sealer.seal_each(&recipes)?.into_iter();
    let mut arrays = arrays.into_iter();
    let sql = plan.render(|index, out| -> Result<(), Refusal> {
        out.push('\'');
        if plan.literals.get(index).is_some_and(|slot| slot.elements) {
            out.push_str(&String::from_utf8_lossy(&arrays.next().unwrap_or_default()));
        } else {
            let place = places.next().ok_or_else(|| not_read(None))?;
            out.push_str("\\x");
            out.push_str(&faster_hex::hex_string(sealer.cells.get(place)));
        }
        out.push('\'');
        Ok(())
    })?;
    Ok(SealedText { sql, compared: sealer.compared, sealed: sealer.sealed })
}

fn read_literal(sealer: &mut Sealer<'_>, recipe: &Recipe, literal: &Literal) -> Result<(), Refusal> {
    let own = recipe.data_type;
    match literal {
        Literal::Text(text) => sealer.read(recipe, None, Format::Text, text.as_bytes()),
        Literal::Number(number) => {
            let sent = match own {
                DataType::Real | DataType::DoublePrecision | DataType::Numeric(_) => own,
                // What the number is without the column (`make_const`): text gets it as PostgreSQL prints it.
                _ if number.parse::<i64>().is_ok() => DataType::Bigint,
                _ => DataType::Numeric(None),
            };
            sealer.read(recipe, Some(&sent), Format::Text, number.as_bytes())
        }
        Literal::Bool(truth) => {
            sealer.read(recipe, Some(&DataType::Boolean), Format::Text, if *truth { b"t" } else { b"f" })
        }
    }
}

/// A comparison may not convert: an assignment cast could make unequal values equal.
fn comparable(recipe: &Recipe, sent: &DataType) -> Result<(), Refusal> {
    let own = recipe.data_type;
    let integer = |t: &DataType| matches!(t, DataType::Smallint | DataType::Integer | DataType::Bigint);
    let text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_));
    let decimal = |t: &DataType| integer(t) || matches!(t, DataType::Numeric(_));
    let number = |t: &DataType| decimal(t) || matches!(t, DataType::Real | DataType::DoublePrecision);
    let day = |t: &DataType| matches!(t, DataType::Date | DataType::Timestamp | DataType::Timestamptz);
    let same = std::mem::discriminant(&own) == std::mem::discriminant(sent)
        || (integer(&own) && integer(sent))
        || (text(&own) && text(sent))
        || (matches!(own, DataType::Numeric(_)) && decimal(sent));
    if same {
        return Ok(());
    }
    // The recipe has the family's widest type: no column's.
    let (left, right) = (recipe.domain.data_type.sql(), sent.sql());
    let refusal = if (number(&own) && number(sent)) || (day(&own) && day(sent)) {
        let message = format!(
            "comparison of sealed column {} with a value of type {right} is not supported",
            recipe.column_name
        );
        Refusal::new(Reason::Value, "0A000", message)
    } else {
        // PostgreSQL has no such operator either.
        Refusal::new(Reason::Value, "42883", format!("operator does not exist: {left} = {right}"))
            .detail(format!("The value meets sealed column {}.", recipe.column_name))
    };
    Err(refusal.hint(format!("Give the value the column's type: {left}.")))
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
