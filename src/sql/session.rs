//! Statements about the session itself, read from their tokens: what they change that later plans depend on, what
//! stops at the proxy, and what a session may not change.

use super::lex::Kind;
use super::lineage::Effects;
use super::problem::{Problem, Trouble};
use super::words::Words;
use crate::catalog::Catalog;
use zeroize::Zeroizing;

/// A command for the proxy itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Local {
    /// `local`: for the transaction only.
    SetPurpose {
        purpose: Option<String>,
        local: bool,
    },
    /// The code is a secret of one use: no `Debug`.
    SetOtp(Zeroizing<String>),
    /// The second factor is given up.
    ResetOtp,
    /// Why, in the user's words: for the record. `None`: the glass is whole again.
    SetBreakGlass(Option<String>),
    ShowStatus,
    /// `DEALLOCATE name`: the statement has a name of ours in the server.
    Deallocate(String),
}

impl std::fmt::Debug for Local {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Local::SetPurpose { .. } => "SetPurpose",
            Local::SetOtp(_) => "SetOtp",
            Local::ResetOtp => "ResetOtp",
            Local::SetBreakGlass(_) => "SetBreakGlass",
            Local::ShowStatus => "ShowStatus",
            Local::Deallocate(_) => "Deallocate",
        })
    }
}

/// What the session's statement is.
pub(super) enum Session {
    Effects(Effects),
    Local(Local),
}

/// Reads one statement. `tokens` has no comments.
pub(super) fn read(words: &Words<'_>, catalog: &Catalog) -> Result<Session, Problem> {
    let pinned = catalog.has_tags();
    let effects = match words.keyword(0) {
        "set" => return set(words, pinned),
        "reset" => reset(words, pinned)?,
        "show" => return show(words),
        "discard" => Effects {
            path: true,
            discards_statements: words.keyword(1) == "all",
            resets_session: words.keyword(1) == "all",
            ..Effects::default()
        },
        "deallocate" => return Ok(deallocate(words)),
        "rollback" | "abort" => Effects { path: words.any_word(|word| word == "to"), ..Effects::default() },
        "prepare" | "declare" => Effects { names: true, ..Effects::default() },
        "do" | "call" | "execute" => Effects { path: true, writes: true, ..Effects::default() },
        "create" | "alter" | "drop" => definition(words),
        "import" | "security" => Effects { catalog: true, writes: true, ..Effects::default() },
        "insert" | "update" | "delete" | "merge" | "truncate" | "copy" => {
            Effects { writes: true, path: calls_user_function(words, catalog), ..Effects::default() }
        }
        _ => Effects { path: calls_user_function(words, catalog), ..Effects::default() },
    };
    let configured = set_config(words, pinned)?;
    Ok(Session::Effects(Effects { path: effects.path || configured, ..effects }))
}

fn definition(words: &Words<'_>) -> Effects {
    let mut schema = false;
    let mut catalog = false;
    for index in 1..words.tokens.len().min(6) {
        match words.keyword(index) {
            "schema" | "temp" | "temporary" => {
                schema = true;
                catalog = true;
            }
            "table" | "view" | "type" | "domain" | "function" | "procedure" | "aggregate" | "extension"
            | "foreign" | "column" | "owned" | "routine" => catalog = true,
            _ => {}
        }
    }
    Effects { path: schema, catalog, writes: true, ..Effects::default() }
}

fn calls_user_function(words: &Words<'_>, catalog: &Catalog) -> bool {
    !catalog.functions.is_empty() && words.any_word(|word| catalog.functions.contains_key(word))
}

fn set(words: &Words<'_>, pinned: bool) -> Result<Session, Problem> {
    let scoped = matches!(words.keyword(1), "session" | "local") && words.symbol(2).is_empty();
    let local = words.keyword(1) == "local";
    let start = if scoped && !matches!(words.keyword(2), "to" | "") { 2 } else { 1 };
    let first = words.keyword(start);
    let plain = |path| Ok(Session::Effects(Effects { path, ..Effects::default() }));
    match first {
        "authorization" => {
            return Err(setting(
                "SET SESSION AUTHORIZATION",
                "Log in as that user instead: rights are the session user's.",
            ));
        }
        "session" if words.keyword(start + 1) == "authorization" => {
            return Err(setting(
                "SET SESSION AUTHORIZATION",
                "Log in as that user instead: rights are the session user's.",
            ));
        }
        "role" => return plain(true),
        "transaction" | "constraints" | "characteristics" | "time" | "xml" => return plain(false),
        "names" => {
            let encoding = words.value(start + 1).unwrap_or_default();
            return if pinned && !is_utf8(&encoding) { Err(encoding_refused()) } else { plain(false) };
        }
        "schema" => return plain(true),
        _ => {}
    }
    let (name, after) = words.dotted(start);
    let value_at = if words.symbol(after) == "=" || words.keyword(after) == "to" { after + 1 } else { after };
    if let Some(own) = name.strip_prefix("pgveil.") {
        return own_setting(own, local, words.value(value_at).filter(|_| value_at + 1 == words.tokens.len()));
    }
    if name == "session_authorization" {
        return Err(setting(
            "SET SESSION AUTHORIZATION",
            "Log in as that user instead: rights are the session user's.",
        ));
    }
    if pinned {
        let value = words.value(value_at).unwrap_or_default();
        check_pinned(&name, &value)?;
    }
    plain(name == "search_path" || name == "role")
}

/// `SET pgveil.…`.
fn own_setting(name: &str, local: bool, value: Option<String>) -> Result<Session, Problem> {
    if local && matches!(name, "otp" | "break_glass") {
        let hint = "It holds for the connection: use SET.";
        return Err(setting(&format!("SET LOCAL pgveil.{name}"), hint));
    }
    let given = || {
        value
            .clone()
            .ok_or_else(|| setting(&format!("this value of pgveil.{name}"), "Give one quoted value."))
    };
    match name {
        "purpose" => {
            let purpose = given()?;
            let purpose = (!purpose.is_empty() && purpose != "default").then_some(purpose);
            Ok(Session::Local(Local::SetPurpose { purpose, local }))
        }
        "otp" => match given()? {
            none if none.is_empty() || none == "default" => Ok(Session::Local(Local::ResetOtp)),
            code => Ok(Session::Local(Local::SetOtp(Zeroizing::new(code)))),
        },
        "break_glass" => Ok(Session::Local(Local::SetBreakGlass(reason(given()?)?))),
        _ => Err(Problem::new(
            Trouble::Setting,
            "42704",
            format!("unrecognized configuration parameter \"pgveil.{name}\""),
        )
        .hint("pgveil.purpose, pgveil.otp and pgveil.break_glass can be set.")),
    }
}

/// Why the glass is broken, fit for a record; nothing, or `default`, makes it whole again.
fn reason(text: String) -> Result<Option<String>, Problem> {
    let text = text.trim();
    if text.is_empty() || text == "default" {
        return Ok(None);
    }
    if text.chars().count() > REASON_CHARACTERS_MAX {
        let message =
            format!("the reason for breaking the glass is longer than {REASON_CHARACTERS_MAX} characters");
        return Err(Problem::new(Trouble::Setting, "22023", message).hint("Say it shorter."));
    }
    Ok(Some(text.to_owned()))
}

/// What a record keeps of a reason.
const REASON_CHARACTERS_MAX: usize = 500;

fn reset(words: &Words<'_>, pinned: bool) -> Result<Effects, Problem> {
    let (name, _) = words.dotted(1);
    if pinned && matches!(name.as_str(), "bytea_output" | "standard_conforming_strings" | "client_encoding") {
        return Err(setting(
            &format!("RESET {name}"),
            "This setting is fixed for connections through pgveil.",
        ));
    }
    if name == "session" && words.keyword(2) == "authorization" {
        return Ok(Effects { path: true, ..Effects::default() });
    }
    let all = name == "all";
    let own = name.starts_with("pgveil.");
    Ok(Effects {
        path: all || name == "search_path" || name == "role",
        resets_session: all || own,
        ..Effects::default()
    })
}

fn show(words: &Words<'_>) -> Result<Session, Problem> {
    let (name, _) = words.dotted(1);
    match name.strip_prefix("pgveil.") {
        Some("status") => Ok(Session::Local(Local::ShowStatus)),
        Some(other) => Err(Problem::new(
            Trouble::Setting,
            "42704",
            format!("unrecognized configuration parameter \"pgveil.{other}\""),
        )
        .hint("SHOW pgveil.status tells what holds for this connection.")),
        None => Ok(Session::Effects(Effects::default())),
    }
}

fn deallocate(words: &Words<'_>) -> Session {
    let at = if words.keyword(1) == "prepare" { 2 } else { 1 };
    if words.keyword(at) == "all" {
        return Session::Effects(Effects { discards_statements: true, ..Effects::default() });
    }
    Session::Local(Local::Deallocate(words.word(at).to_owned()))
}

/// `set_config('name', …)`: the name must be a constant that can be judged. True when it was called.
fn set_config(words: &Words<'_>, pinned: bool) -> Result<bool, Problem> {
    let mut called = false;
    for (index, word) in words.all() {
        if word == "current_setting" && words.symbol(index + 1) == "(" {
            let name = words.value(index + 2).unwrap_or_default().to_ascii_lowercase();
            if name.starts_with("pgveil.") {
                return Err(setting(&format!("current_setting of {name}"), "Use SHOW pgveil.status."));
            }
        }
        if word == "pg_settings" && words.keyword(0) == "update" && pinned {
            return Err(setting("UPDATE of pg_settings", "Use SET."));
        }
        if word != "set_config" || words.symbol(index + 1) != "(" {
            continue;
        }
        called = true;
        let literal = words.tokens.get(index + 2).is_some_and(|token| token.kind == Kind::String);
        let chosen = if literal { None } else { chosen_setting(words, index) };
        let plain = chosen.is_some() || literal && words.symbol(index + 3) == ",";
        let name = chosen.or_else(|| words.value(index + 2)).unwrap_or_default().to_ascii_lowercase();
        if name.starts_with("pgveil.") {
            return Err(setting("set_config of a pgveil setting", "Use SET."));
        }
        if pinned && !plain {
            return Err(setting(
                "set_config with a computed name",
                "Give the setting's name as a quoted constant.",
            ));
        }
        if pinned
            && matches!(
                name.as_str(),
                "bytea_output" | "standard_conforming_strings" | "client_encoding" | "session_authorization"
            )
        {
            return Err(setting(
                &format!("set_config of {name}"),
                "This setting is fixed for connections through pgveil.",
            ));
        }
    }
    Ok(called)
}

/// `SELECT set_config(name, …, …) FROM pg_settings WHERE name = 'constant'`, by which pg_dump sets what an older server may
/// not have: the constant.
fn chosen_setting(words: &Words<'_>, index: usize) -> Option<String> {
    let from = index + 8;
    let shaped = index == 1
        && words.keyword(0) == "select"
        && words.word(3) == "name"
        && [(4, ","), (6, ","), (8, ")")].iter().all(|(at, symbol)| words.symbol(*at) == *symbol)
        && [(from, "from"), (from + 1, "pg_settings"), (from + 2, "where"), (from + 3, "name")]
            .iter()
            .all(|(at, word)| words.keyword(*at) == *word)
        && words.symbol(from + 4) == "="
        && words.tokens.get(from + 5).is_some_and(|token| token.kind == Kind::String)
        && words.tokens.len() == from + 6;
    if shaped { words.value(from + 5) } else { None }
}

/// Settings that change what the proxy reads: only the value that it relies on.
pub fn check_pinned(name: &str, value: &str) -> Result<(), Problem> {
    let value = value.to_ascii_lowercase();
    match name {
        "standard_conforming_strings"
            if !matches!(value.as_str(), "on" | "true" | "yes" | "1" | "default") =>
        {
            Err(setting("standard_conforming_strings = off", "Write backslash escapes as E'…'."))
        }
        "bytea_output" if value != "hex" => Err(setting("bytea_output other than hex", "Leave it at hex.")),
        "client_encoding" if !is_utf8(&value) => Err(encoding_refused()),
        _ => Ok(()),
    }
}

fn is_utf8(encoding: &str) -> bool {
    let squeezed: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(squeezed.to_ascii_lowercase().as_str(), "utf8" | "unicode" | "default")
}

fn encoding_refused() -> Problem {
    setting("client_encoding other than UTF8", "Set client_encoding to UTF8.")
}

fn setting(what: &str, hint: &str) -> Problem {
    Problem::new(Trouble::Setting, "0A000", format!("{what} is not supported through pgveil")).hint(hint)
}
