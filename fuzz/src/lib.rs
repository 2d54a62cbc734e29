//! What the fuzz targets do with their bytes. Each body is total: any panic is a finding. What a parser takes must come
//! back from the encoder as what was read.

pub mod shop;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use bytes::{Bytes, BytesMut};
use hkdf::Hkdf;
use pgveil::auth::scram::{ClientFirst, Keys, Secret, ServerFirst};
use pgveil::auth::token::{ALGORITHMS, KeySet, Rules};
use pgveil::auth::{Naming, Verifier};
use pgveil::cell::copy::fields;
use pgveil::cell::copy::stream::{Kind, Stream};
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{Cells, Mode, OpenError, Random};
use pgveil::plan::{CopyOptions, NO_NAMES, Planned, Session, plan as planned};
use pgveil::policy::{Circumstances, Principal};
use pgveil::sql::{self, Reading, copy_options};
use pgveil::wire::backend::{self, Authentication, DataRow, DataRowBuilder, ErrorFields};
use pgveil::wire::frontend::{self, Bind, Parse};
use pgveil::wire::startup::{self, Startup};
use pgveil::wire::{self, Frame, Limits};
use sha2::Sha256;
use std::sync::OnceLock;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 16 };

/// Bytes as a peer sends them after log-in, from either side.
pub fn frame(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(frame)) = wire::split(&mut buffer, &LIMITS) {
        let length = frame.bytes().len();
        assert_eq!(frame.bytes(), &data[taken..taken + length], "a frame is the bytes that came");
        taken += length;
        from_client(&frame);
        from_server(&frame);
    }
    // The same bytes as one body, for every message whose tag they did not name.
    if let Ok(length) = u32::try_from(data.len() + 4) {
        for tag in 0x20..0x7f {
            let bytes = [&[tag][..], &length.to_be_bytes(), data].concat();
            let frame = Frame::from_bytes(Bytes::from(bytes));
            from_client(&frame);
            from_server(&frame);
        }
    }
}

/// Options of COPY that spell rows differently.
const SPELLINGS: [&str; 5] = [
    "",
    "(delimiter 'A', null 'n')",
    "(format csv)",
    "(format csv, quote '''', escape '\\', null 'x', header)",
    "(format binary)",
];

/// The data of a COPY: the first byte says how it is spelled, the second where it is cut.
pub fn copy(data: &[u8]) {
    let [spelling, cut, data @ ..] = data else { return };
    let spelling = SPELLINGS[usize::from(*spelling) % SPELLINGS.len()];
    let options =
        copy_options(&format!("copy t from stdin {spelling}")).expect("options that are understood");
    let (before, after) = data.split_at(usize::from(*cut).min(data.len()));
    let whole = copied(&options, &[data]);
    assert_eq!(whole, copied(&options, &[before, after]), "where it is cut does not matter");
}

/// The rows as they were spelled, each with its fields; they are the data without a gap.
fn copied(options: &CopyOptions, cuts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut stream = Stream::new(options, true, LIMITS.message_bytes_max as usize);
    let mut rows: Vec<Vec<u8>> = vec![];
    for (index, cut) in cuts.iter().chain(&[&b""[..]]).enumerate() {
        stream.push(cut);
        loop {
            let piece = match stream.next(index == cuts.len()) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) => return (rows, false),
            };
            let body = &stream.bytes()[piece.body.clone()];
            rows.push(stream.bytes()[piece.whole.clone()].to_vec());
            let mut found = vec![];
            if piece.kind == Kind::Row && fields::split(options, body, &mut found).is_ok() {
                respelled(options, body, &found);
            }
        }
        stream.forget();
    }
    assert!(cuts.concat().starts_with(&rows.concat()), "rows are the bytes that came");
    (rows, true)
}

/// What a field says comes back from how it is spelled.
fn respelled(options: &CopyOptions, body: &[u8], found: &[fields::Field]) {
    for field in found.iter().filter(|field| !field.null) {
        let (mut value, mut spelled, mut again) = (vec![], vec![], vec![]);
        fields::decode(options, &body[field.raw.clone()], &mut value);
        fields::encode(options, &value, false, false, &mut spelled);
        let length = if options.format() == pgveil::plan::CopyFormat::Binary { 4 } else { 0 };
        fields::decode(options, &spelled[length..], &mut again);
        assert_eq!(value, again);
    }
}

fn from_client(frame: &Frame) {
    match frame.tag() {
        frontend::QUERY => same(frame, frontend::query_text(frame).ok().map(frontend::encode_query)),
        frontend::PARSE => same(frame, Parse::view(frame).ok().map(|parse| parse.encode())),
        frontend::BIND => {
            let bind = Bind::view(frame).ok();
            assert!(bind.as_ref().is_none_or(|bind| matches!(bind.parameter_format(1), 0 | 1)));
            same(frame, bind.map(|bind| bind.encode()));
        }
        frontend::DESCRIBE => {
            let read = frontend::target(frame).ok();
            same(frame, read.map(|(target, name)| frontend::encode_describe(target, name)));
        }
        // A negative number of rows means all, as 0 does: it does not come back.
        frontend::EXECUTE => drop(frontend::execute(frame)),
        frontend::PASSWORD => drop(frontend::sasl_initial(frame)),
        _ => {}
    }
}

fn from_server(frame: &Frame) {
    match frame.tag() {
        backend::ROW_DESCRIPTION => {
            same(
                frame,
                backend::row_description(frame).ok().map(|fields| backend::encode_row_description(&fields)),
            );
        }
        backend::PARAMETER_DESCRIPTION => {
            let types = backend::parameter_description(frame).ok();
            same(frame, types.map(|types| backend::encode_parameter_description(&types)));
        }
        backend::DATA_ROW => data_row(frame),
        // Text that is no UTF-8 is read lossily: it does not come back.
        backend::ERROR_RESPONSE => drop(ErrorFields::view(frame)),
        backend::PARAMETER_STATUS => {
            let status = backend::parameter_status(frame).ok();
            same(frame, status.map(|(name, value)| backend::encode_parameter_status(name, value)));
        }
        backend::BACKEND_KEY_DATA => {
            let key = backend::backend_key_data(frame).ok();
            same(frame, key.map(|(process_id, secret)| backend::encode_backend_key_data(process_id, secret)));
        }
        backend::READY_FOR_QUERY => drop(backend::ready_for_query(frame)),
        backend::COMMAND_COMPLETE => {
            same(frame, backend::command_tag(frame).ok().map(backend::encode_command_complete));
        }
        backend::AUTHENTICATION => match Authentication::view(frame) {
            // What follows an unknown code is not kept.
            Ok(Authentication::Other(_)) | Err(_) => {}
            Ok(request) => same(frame, Some(request.encode())),
        },
        _ => {}
    }
}

fn data_row(frame: &Frame) {
    let Ok(mut row) = DataRow::view(frame) else { return };
    let mut out = BytesMut::new();
    let mut builder = DataRowBuilder::begin(&mut out);
    for _ in 0..row.columns() {
        match row.next() {
            Ok(value) => builder.column(value),
            Err(_) => return,
        }
    }
    assert!(builder.end().is_ok() && out == frame.bytes()[..], "a row comes back");
}

/// What was read comes back byte for byte.
fn same(frame: &Frame, encoded: Option<Frame>) {
    if let Some(encoded) = encoded {
        assert_eq!(encoded.bytes(), frame.bytes(), "what was read comes back");
    }
}

/// Bytes as a client sends them first.
pub fn startup(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(packet)) = startup::split(&mut buffer, &LIMITS) {
        let again = match &packet {
            Startup::Start { version, parameters } if *version == 3 << 16 => {
                startup::encode_start(parameters)
            }
            Startup::Cancel { process_id, secret } => startup::encode_cancel(*process_id, secret),
            Startup::Ssl => startup::encode_ssl_request(),
            Startup::Start { .. } | Startup::Gss => continue,
        };
        let read = startup::split(&mut BytesMut::from(&again[..]), &LIMITS);
        assert!(read.is_ok_and(|read| read == Some(packet)), "what was read comes back");
    }
}

/// A client's two messages, or a server's two, of a log-in by SCRAM; and a stored verifier. Divided at zero bytes.
pub fn scram(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (first, last) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok((next, _)) = ServerFirst::new("ada", None, &[0; 32]).respond(first, "nonce", None, false) {
        assert!(next.finish(last).is_err(), "nobody proves an unknown user's password");
    }
    let keys = Keys::derive("x", &[0; 16], 1);
    if let Ok((next, _)) = ClientFirst::begin(Secret::Proved(keys), "nonce", None, false).0.prove(first) {
        assert!(next.finish(last).is_err(), "nobody signs without the server key");
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(verifier) = Verifier::parse(text)
    {
        assert!(Verifier::parse(&verifier.text()).is_some_and(|again| again == verifier));
    }
}

/// A token as a client sends it, and a provider's keys.
pub fn token(data: &[u8]) {
    // The key of RFC 8037, Appendix A.2, by which nobody here signs.
    const KEYS: &[u8] =
        br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let rules = Rules {
        issuer: "i".to_owned(),
        audience: vec!["a".to_owned()],
        algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        claim: "sub".to_owned(),
        naming: Naming::Suffix(String::new()),
        leeway_seconds: 0,
    };
    for keys in [KeySet::parse(KEYS), KeySet::parse(data)].into_iter().flatten() {
        assert!(rules.judge("ada", data, &keys, 0).is_err(), "nobody signs without the provider's key");
    }
}

/// Statements that pass whatever they name.
const PASSING: &str = " abort analyze analyse begin checkpoint close cluster comment commit deallocate discard drop end \
    fetch grant listen lock move notify reassign refresh reindex release reset revoke rollback savepoint security set show start \
    truncate unlisten vacuum create alter copy execute prepare do call ";

/// A text as a client sends it, planned over a small shop as one who may do everything, and as one who sees masks.
pub fn plan(data: &[u8]) {
    static SHOP: OnceLock<shop::Shop> = OnceLock::new();
    let Ok(text) = std::str::from_utf8(data) else { return };
    let shop = SHOP.get_or_init(shop::shop);
    let path = ["public".to_owned()];
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
    };
    for user in ["shop", "alice"] {
        let principal = Principal::assumed(user.to_owned());
        let session = Session {
            principal: &principal,
            circumstances: &circumstances,
            search_path: &path,
            named: &NO_NAMES,
        };
        let script = planned(text, &[], &shop.catalog, &shop.policy, &session);
        for (statement, span) in script.statements.iter().zip(&script.spans) {
            let own = &text[span.clone()];
            match statement {
                Planned::Plan(plan) => {
                    let literal = |_: usize, out: &mut String| -> Result<(), ()> {
                        out.push_str("'\\x00'");
                        Ok(())
                    };
                    let sent = plan.render(literal).expect("nothing fails");
                    let read = sql::read(&sent);
                    assert!(matches!(read, Ok(Reading::Parsed(_) | Reading::Tokens)), "{sent}: {read:?}");
                }
                Planned::Pass(pass) if !pass.by_meaning => names_nothing_tagged(own),
                _ => {}
            }
        }
    }
}

/// What passes unread has no word that leads to a tagged table.
fn names_nothing_tagged(text: &str) {
    let tokens = sql::lex::lex(text).expect("it was split by its tokens");
    let words: Vec<String> = tokens
        .iter()
        .filter(|token| token.is_identifier())
        .map(|token| sql::lex::fold_identifier(token.text(text)))
        .collect();
    let harmless = words.first().is_some_and(|first| PASSING.contains(&format!(" {first} ")));
    let tagged = ["customers", "orders", "customer_emails"];
    let named = words.iter().find(|word| tagged.contains(&word.as_str()));
    assert!(harmless || named.is_none(), "{text} passes");
}

/// Gives the same byte.
struct Always(u8);

impl Random for Always {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

/// A batch of cells, against `aes-siv` and the keys as FORMAT.md has them. The first byte says the key, the mode, and
/// which cell is altered where; then each cell's length and bytes.
pub fn cells(data: &[u8]) {
    let [seed, altered, cells @ ..] = data else { return };
    let (mode, first) = match seed % 2 {
        0 => (Mode::Deterministic, 0x11),
        _ => (Mode::Randomized, 0x12),
    };
    let mut keyring = Keyring::create();
    keyring.ensure_key("default", 0, &mut Always(*seed));
    keyring.ensure_domain("d").expect("the first one");
    let ciphers = keyring.ciphers([("d", mode, "default")]).expect("both are there");
    let cipher = &ciphers.by_domain["d"];
    let mut key = [0; 64];
    let info = [&b"pgveil cell v1"[..], &[0, 1], &[first]];
    Hkdf::<Sha256>::new(None, &[*seed; 64]).expand_multi_info(&info, &mut key).expect("64 bytes");
    let mut siv = Aes256Siv::new(&key.into());

    let (mut plain, mut sealed, mut opened) = (Cells::new(), Cells::new(), Cells::new());
    let mut cells = cells;
    while let [length, rest @ ..] = cells {
        // Some longer than the bytes are many.
        let length = usize::from(*length) * if *length > 200 { 7 } else { 1 };
        let own = rest.len().min(length);
        plain.push(&[&rest[..own], &vec![*altered; length - own]].concat());
        cells = &rest[own..];
    }
    cipher.seal(cipher.current(), &plain, &mut Always(*altered), &mut sealed).expect("the version is there");
    let (header, nonce) = ([first, 0, 1, 0, 1], [*altered; 12]);
    for (plain, sealed) in plain.iter().zip(sealed.iter()) {
        let expected = match mode {
            Mode::Deterministic => [&header[..], &siv.encrypt([&header[..]], plain).expect("seals")].concat(),
            Mode::Randomized => {
                let text = siv.encrypt([&header[..], &nonce], plain).expect("seals");
                [&header[..], &nonce, &text].concat()
            }
        };
        assert!(sealed == expected, "a batch seals as its cells by themselves");
    }
    cipher.open(&sealed, &mut opened).expect("what was sealed opens");
    assert!(opened.iter().eq(plain.iter()), "what was sealed comes back");
    if sealed.is_empty() {
        return;
    }
    let (at, mut spoilt) = (usize::from(*altered) % sealed.len(), Cells::new());
    for (index, cell) in sealed.iter().enumerate() {
        let mut cell = cell.to_vec();
        let byte = usize::from(*seed) % cell.len();
        cell[byte] ^= if index == at { 1 } else { 0 };
        spoilt.push(&cell);
    }
    let OpenError { cell, .. } = cipher.open(&spoilt, &mut opened).expect_err("one bit is another");
    assert!(cell == at && opened.len() == plain.len(), "the cell is found, and nothing is left of its batch");
}
