//! The house rules that a machine can read off the sources: directions between modules, where a foreign crate may be
//! named, what is absent from the deterministic middle, and the lengths of files and functions.
//!
//! Each finding is a line `file:line: what to do`. Code under `#[cfg(test)]` is free of all but the file's length. This
//! reads text, not types: a name smuggled through a re-export or a macro is not seen.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Which modules each module may name, itself left out. ARCHITECTURE.md shows the same as a drawing.
const MAY_USE: [(&str, &str); 18] = [
    ("crypto", ""),
    ("value", ""),
    ("wire", ""),
    ("metrics", ""),
    ("catalog", "value"),
    ("policy", "catalog crypto value"),
    ("sql", "catalog value"),
    ("plan", "catalog policy sql value"),
    ("auth", "policy wire"),
    ("audit", "catalog crypto plan policy value"),
    ("cell", "catalog crypto metrics plan policy sql value wire"),
    ("relay", "audit catalog cell crypto metrics plan policy sql value wire"),
    ("server", "audit auth catalog cell crypto metrics plan policy relay sql value wire"),
    ("config", "audit auth catalog cell crypto metrics plan policy relay server sql value wire"),
    ("reseal", "catalog config crypto server value"),
    ("demo", "audit auth catalog cell config crypto metrics plan policy relay server sql value wire"),
    (
        "cli",
        "audit auth catalog cell config crypto demo metrics plan policy relay reseal server sql value wire",
    ),
    ("main", "cli"),
];

/// Where a foreign crate may be named: paths below `src/`.
const CRATES: [(&str, &[&str]); 22] = [
    ("sqlparser", &["sql/"]),
    ("aes", &["crypto/siv/", "crypto/mask_key.rs"]),
    ("fpe", &["crypto/mask_key.rs"]),
    ("fake", &["policy/mask/keyed.rs", "demo/"]),
    ("aes_siv", &["crypto/"]),
    ("cryptoki", &["crypto/provider/pkcs11.rs"]),
    ("ring", &["crypto/age.rs", "crypto/provider/http.rs", "server/tls.rs", "auth/token.rs"]),
    ("jsonwebtoken", &["auth/token.rs"]),
    ("reqsign_core", &["crypto/provider/aws_kms/"]),
    ("reqsign_aws_v4", &["crypto/provider/aws_kms/"]),
    ("ini", &["crypto/provider/aws_kms/"]),
    ("rustls_native_certs", &["crypto/provider/http.rs"]),
    ("bech32", &["crypto/age.rs"]),
    ("vsss_rs", &["crypto/shares.rs"]),
    ("pgwire", &["wire/", "auth/"]),
    ("tokio", &["server/", "audit/writer", "crypto/provider/", "reseal/", "cli/", "demo/"]),
    ("tokio_postgres", &["server/", "reseal/", "cli/", "demo/"]),
    ("prometheus", &["metrics.rs"]),
    ("qrcode", &["cli/"]),
    ("totp_rs", &["auth/"]),
    ("rustls", &["crypto/provider/http.rs", "server/"]),
    ("dashmap", &["plan/cache.rs", "server/cancel.rs"]),
];

/// Modules that are deterministic: no clock, no randomness of their own, no I/O, no log.
const DETERMINISTIC: [&str; 9] =
    ["value", "wire", "catalog", "policy", "sql", "plan", "cell", "relay", "auth"];

/// What they do without, and what to do instead.
const OUTSIDE_WORLD: [(&str, &str); 11] = [
    ("SystemTime::now", "take the time as an argument"),
    ("Instant::now", "take the time as an argument"),
    ("Timestamp::now", "take the time as an argument"),
    ("Zoned::now", "take the time as an argument"),
    ("getrandom::", "have the randomness handed in"),
    ("rand::rng(", "have the randomness handed in"),
    ("std::fs", "do I/O in server, audit or cli"),
    ("std::net::TcpStream", "do I/O in server, audit or cli"),
    ("tracing::", "return what happened; server logs it"),
    ("println!", "return what happened; cli prints it"),
    ("std::env::", "read the environment in config or cli"),
];

/// Calls that only tests may make.
const TESTS_ONLY: [(&str, &str); 5] = [
    (".unwrap()", "use `?`, or `expect` with the invariant that makes it true"),
    ("todo!(", "write it or refuse"),
    ("unimplemented!(", "write it or refuse"),
    ("dbg!(", "it may print a plaintext"),
    ("process::exit(", "return an exit code, so that destructors run"),
];

const FILE_LINES: usize = 700;
const FUNCTION_LINES: usize = 70;

/// Functions that may be longer: flat tables only, each with its reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 5] = [
    ("metrics.rs", "new", "one constructor a metric"),
    ("sql/kinds.rs", "statement", "one arm a kind of statement"),
    ("sql/lineage/alter.rs", "alter_operation", "one arm an operation of ALTER TABLE"),
    ("sql/lineage/expression.rs", "expr", "one arm a kind of expression"),
    ("sql/lineage/relation.rs", "factor", "one arm a kind of FROM item"),
];

/// One source file below `src/`.
struct Source {
    /// Below `src/`, with `/`.
    path: String,
    text: String,
    /// The text with comments, literals and test code blanked, line for line.
    code: String,
}

impl Source {
    /// `plan` for `plan/cache.rs`, `metrics` for `metrics.rs`; `lib` is the map of modules.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// How many `super::` lead from this file's module to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").count();
        parts.max(1)
    }

    fn at(&self, byte: usize) -> String {
        format!("src/{}:{}", self.path, line_of(&self.code, byte))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for (path, text) in rust_files(&root) {
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let code = if is_test { String::new() } else { without_tests(&without_text(&text)) };
        sources.push(Source { path, text, code });
    }
    assert!(sources.len() > 20, "src was not found");
    sources
}

/// All `.rs` files below a directory, with their paths relative to it.
fn rust_files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes()[..byte].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn none(findings: Vec<String>) {
    let mut list = String::new();
    for finding in &findings {
        writeln!(list, "  {finding}").unwrap();
    }
    assert!(findings.is_empty(), "{} finding(s):\n{list}", findings.len());
}

/// Blanks comments and the insides of string and character literals.
fn without_text(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().take_while(|byte| **byte != b'\n').count()
        } else if rest.starts_with(b"/*") {
            text[at..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(bytes, at) {
            let (open, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
            text[at + open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest[0] == b'"' {
            quoted_length(rest, b'"')
        } else if rest[0] == b'\''
            && (rest.get(1) == Some(&b'\\') || text[at + 1..].chars().nth(1) == Some('\''))
        {
            quoted_length(rest, b'\'')
        } else {
            at += 1;
            continue;
        };
        for byte in &mut code[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length;
    }
    String::from_utf8(code).unwrap()
}

/// The number of `#` of a raw string that begins here.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let word_before =
        at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b';
    let rest = bytes[at..].strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (!word_before && rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code, start + attribute.len());
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Where the item that begins at `start` ends: behind its block, or behind its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return block_end(code, index),
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

/// Behind the brace that closes the one at `open`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    code.len()
}

/// Where `name` stands as a whole word, or as the end of a longer path when it begins with no letter.
fn occurrences<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name)
        .map(|(at, _)| at)
        .filter(move |at| !name.starts_with(word) || !code[..*at].ends_with(word))
}

fn identifier(code: &str) -> &str {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    &code[..end]
}

/// The modules that a path names behind `crate::`, of which `rest` is what follows: one, or each of a group.
fn named(rest: &str) -> Vec<&str> {
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let group = &group[..block_end(rest, 0).saturating_sub(2).min(group.len())];
    let mut depth = 0_usize;
    let entries = group.split(|c: char| {
        depth = if c == '{' {
            depth + 1
        } else if c == '}' {
            depth - 1
        } else {
            depth
        };
        c == ',' && depth == 0
    });
    entries.map(|entry| identifier(entry.trim())).filter(|name| !name.is_empty()).collect()
}

/// Every module of the crate that a source names, and where.
fn references(source: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let roots =
        [("crate::".to_owned(), 0), ("pgveil::".to_owned(), 0), ("super::".repeat(source.depth()), 1)];
    for (root, at_least) in &roots {
        // `super::` leads to the root only when nothing stands before its chain.
        for at in
            occurrences(&source.code, root).filter(|at| *at_least == 0 || !source.code[..*at].ends_with("::"))
        {
            found.extend(named(&source.code[at + root.len()..]).into_iter().map(|name| (at, name)));
        }
    }
    found
}

#[test]
fn modules_look_only_down() {
    let modules: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module() != "lib") {
        let module = source.module();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            findings
                .push(format!("src/{}: module `{module}` is not in the table of directions", source.path));
            continue;
        };
        for (at, name) in references(source) {
            if name != module && modules.contains(name) && !allowed.split(' ').any(|allowed| allowed == name)
            {
                let why = if allowed.is_empty() { "nothing" } else { allowed };
                findings
                    .push(format!("{}: `{module}` must not use `{name}` (it may use {why})", source.at(at)));
            }
        }
    }
    none(findings);
}

#[test]
fn foreign_crates_stay_in_their_places() {
    let mut findings = Vec::new();
    for source in &sources() {
        for (name, places) in CRATES {
            let path = format!("{name}::");
            for at in occurrences(&source.code, &path) {
                if !places.iter().any(|place| {
                    source.path.starts_with(place)
                        || place.strip_suffix('/') == source.path.strip_suffix(".rs")
                }) {
                    findings.push(format!(
                        "{}: `{name}` is named only in {}",
                        source.at(at),
                        places.join(", ")
                    ));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn the_middle_is_deterministic() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| DETERMINISTIC.contains(&source.module())) {
        for (call, remedy) in OUTSIDE_WORLD {
            for at in occurrences(&source.code, call) {
                findings.push(format!("{}: `{call}` in `{}`: {remedy}", source.at(at), source.module()));
            }
        }
    }
    none(findings);
}

#[test]
fn some_calls_are_for_tests_only() {
    let mut findings = Vec::new();
    for source in &sources() {
        for (call, remedy) in TESTS_ONLY {
            for at in occurrences(&source.code, call) {
                findings.push(format!("{}: `{call}` outside tests: {remedy}", source.at(at)));
            }
        }
    }
    none(findings);
}

/// A principal is proof of a successful exchange, so only what runs the exchange may make one (and `explain`, which asks
/// "what if" and speaks to nobody).
#[test]
fn only_auth_makes_principals() {
    let mut findings = Vec::new();
    for source in &sources() {
        let allowed = source.module() == "auth" || source.path == "cli/explain.rs";
        for at in occurrences(&source.code, "Principal::authenticated").filter(|_| !allowed) {
            findings.push(format!("{}: a Principal is made in auth/ and cli/explain.rs only", source.at(at)));
        }
    }
    none(findings);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for (path, text) in rust_files(&root.join(folder)) {
            let lines = text.lines().count();
            if lines > FILE_LINES {
                findings.push(format!("{folder}/{path}: {lines} lines; split it, {FILE_LINES} is the limit"));
            }
            // A module may be documented by the specification beside it.
            if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!") {
                findings.push(format!(
                    "{folder}/{path}:1: begin with `//!`: what it is, what it guarantees, what it leaves out"
                ));
            }
        }
    }
    none(findings);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut findings = Vec::new();
    let mut excused = BTreeSet::new();
    for source in &sources() {
        for at in occurrences(&source.code, "fn ") {
            let name = identifier(&source.code[at + "fn ".len()..]);
            let lines = line_of(&source.code, item_end(&source.code, at)) + 1 - line_of(&source.code, at);
            if name.is_empty() || lines <= FUNCTION_LINES {
                continue;
            }
            match LONG_FUNCTIONS.iter().find(|(path, function, _)| *path == source.path && *function == name) {
                Some(entry) => {
                    excused.insert(entry);
                }
                None => findings.push(format!(
                    "{}: `{name}` has {lines} lines; split it, {FUNCTION_LINES} is the limit (a flat table may be listed in tidy.rs)",
                    source.at(at)
                )),
            }
        }
    }
    for (path, name, _) in LONG_FUNCTIONS.iter().filter(|entry| !excused.contains(entry)) {
        findings.push(format!(
            "tests/it/tidy.rs: `{name}` of {path} is short now, or gone: take it off LONG_FUNCTIONS"
        ));
    }
    none(findings);
}

/// The reader of sources above, held to what it must see and must not see.
#[test]
fn tidy_reads_rust() {
    let text = "use crate::{plan::Plan, sql::{lex, agree}};\n// crate::server\nlet s = \"crate::cli\"; let c = '\"'; let r = r#\"crate::x\"#;\n\
        fn f<'a>(x: &'a [u8; 2]) -> u8 {\n  super::super::policy::g()\n}\n#[cfg(test)]\nmod tests {\n  use crate::demo;\n}\nfn g() {}\n";
    let source =
        Source { path: "relay/x.rs".into(), text: text.into(), code: without_tests(&without_text(text)) };
    let names: Vec<&str> = references(&source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["plan", "sql", "policy"]);
    assert_eq!(source.text.lines().count(), source.code.lines().count());
    let f = source.code.find("fn f").unwrap();
    assert_eq!(line_of(&source.code, item_end(&source.code, f)) - line_of(&source.code, f), 2);
    assert!(source.code.contains("fn g() {}"));
}
