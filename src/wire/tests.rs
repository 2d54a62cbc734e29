//! Messages against PostgreSQL's documented bytes, against themselves (what is encoded is read back), and views against any
//! bytes at all.

use super::backend::{self, Authentication, DataRow, DataRowBuilder, ErrorFields, Field, TransactionStatus};
use super::frontend::{self, Bind, Parse, Target};
use super::startup::{self, Startup};
use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };

type Values = Vec<Option<Vec<u8>>>;

fn values() -> impl Strategy<Value = Values> {
    prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..6)
}

/// Text as a message can carry it: no NUL.
fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,12}"
}

fn borrowed(values: &Values) -> Vec<Option<&[u8]>> {
    values.iter().map(Option::as_deref).collect()
}

/// Feeds `bytes` in two parts and takes every frame off, as a connection would.
fn frames(bytes: &[u8], at: usize) -> Vec<Bytes> {
    let mut buffer = BytesMut::new();
    let mut found = vec![];
    for part in [&bytes[..at], &bytes[at..]] {
        buffer.extend_from_slice(part);
        while let Some(frame) = split(&mut buffer, &LIMITS).expect("well-formed") {
            found.push(frame.into_bytes());
        }
    }
    assert!(buffer.is_empty());
    found
}

#[test]
fn whole_messages_come_in_one_piece_wherever_the_network_cuts() {
    let sent = [
        frontend::encode_execute("p", 0),
        frontend::encode_execute("q", 0),
        frontend::encode_sync(),
        frontend::encode_query("select 1"),
    ];
    let sent = sent.map(Frame::into_bytes);
    let bytes = sent.concat();
    for at in 0..=bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..at]);
        let mut first = whole(&mut buffer, &LIMITS).expect("well-formed");
        assert_eq!([first.bytes(), &buffer[..]].concat(), bytes[..at], "cut at {at}");
        buffer.extend_from_slice(&bytes[at..]);
        let second = whole(&mut buffer, &LIMITS).expect("well-formed");
        assert!(buffer.is_empty());
        assert_eq!(first.len() + second.len(), sent.len(), "cut at {at}");
        first.append(second);
        let bodies: Vec<&[u8]> = first.bodies().collect();
        assert_eq!(bodies, sent.each_ref().map(|frame| &frame[5..]));
        let mut executes = first.take_run(frontend::EXECUTE);
        assert_eq!((executes.len(), first.tag()), (2, Some(frontend::SYNC)));
        assert!(first.take_run(frontend::EXECUTE).is_empty());
        assert_eq!(executes.next().map(Frame::into_bytes).as_ref(), Some(&sent[0]));
        assert_eq!(first.map(Frame::into_bytes).collect::<Vec<_>>(), sent[2..]);
    }
}

#[test]
fn messages_before_a_bad_one_are_taken() {
    let good = frontend::encode_sync().into_bytes();
    let mut buffer = BytesMut::from(&[&good[..], b"Q\0\0\0\x03"].concat()[..]);
    assert_eq!(whole(&mut buffer, &LIMITS).expect("one is good").into_bytes(), good);
    assert!(whole(&mut buffer, &LIMITS).is_err());
    assert_eq!(buffer.len(), 5, "nothing is taken");
}

#[test]
fn frames_are_the_same_wherever_the_network_cuts() {
    let sent: Vec<Bytes> = [
        frontend::encode_query("select 1"),
        frontend::encode_sync(),
        frontend::encode_describe(Target::Portal, "p"),
        frontend::encode_password(&[0; 40]),
        frontend::encode_terminate(),
    ]
    .map(Frame::into_bytes)
    .into();
    let bytes = sent.concat();
    for at in 0..=bytes.len() {
        assert_eq!(frames(&bytes, at), sent, "cut at {at}");
    }
    let start = startup::encode_start(&[("user".to_owned(), "ada".to_owned())]);
    for at in 0..start.len() {
        let mut buffer = BytesMut::from(&start[..at]);
        assert!(startup::split(&mut buffer, &LIMITS).expect("well-formed").is_none(), "cut at {at}");
        assert_eq!(buffer.len(), at);
    }
}

#[test]
fn lengths_are_judged_before_anything_is_held() {
    for length in [0, 1, 2, 3, u32::MAX, i32::MIN.cast_unsigned(), i32::MAX.cast_unsigned(), 1 << 20] {
        let mut buffer = BytesMut::with_capacity(5);
        buffer.put_u8(b'Q');
        buffer.put_u32(length);
        assert!(split(&mut buffer, &LIMITS).is_err(), "{length}");
        assert!(buffer.capacity() < 64, "nothing is reserved for {length}");
        let mut buffer = BytesMut::with_capacity(8);
        buffer.put_u32(length);
        buffer.put_u32(196_608);
        assert!(startup::split(&mut buffer, &LIMITS).is_err(), "{length}");
        assert!(buffer.capacity() < 64, "nothing is reserved for {length}");
    }
    let longest = u32::try_from(LIMITS.message_bytes_max - 1).expect("a small limit");
    let mut buffer = BytesMut::from(&[b'Q'][..]);
    buffer.put_u32(longest);
    assert_eq!(split(&mut buffer, &LIMITS).map(|frame| frame.is_none()), Ok(true));
}

/// Bytes as chapter "Message Formats" of PostgreSQL's documentation gives them, by hand.
#[test]
fn messages_are_postgresqls_byte_for_byte() {
    let bind = Bind {
        portal: "p",
        statement: "s",
        parameter_formats: vec![1],
        parameters: vec![Some(b"ab"), None],
        result_formats: vec![0],
    };
    let rows = [
        (frontend::encode_query("x"), &b"Q\0\0\0\x06x\0"[..]),
        (Parse { name: "s", sql: "q", types: vec![25] }.encode(), b"P\0\0\0\x0es\0q\0\0\x01\0\0\0\x19"),
        (bind.encode(), b"B\0\0\0\x1cp\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0"),
        (frontend::encode_describe(Target::Statement, "s"), b"D\0\0\0\x07Ss\0"),
        (frontend::encode_close(Target::Portal, ""), b"C\0\0\0\x06P\0"),
        (frontend::encode_execute("p", 7), b"E\0\0\0\x0ap\0\0\0\0\x07"),
        (frontend::encode_flush(), b"H\0\0\0\x04"),
        (frontend::encode_copy_fail("no"), b"f\0\0\0\x07no\0"),
        (frontend::encode_sasl_initial("M", b"n"), b"p\0\0\0\x0bM\0\0\0\0\x01n"),
        (Authentication::Ok.encode(), b"R\0\0\0\x08\0\0\0\0"),
        (Authentication::Sasl { mechanisms: vec!["M".to_owned()] }.encode(), b"R\0\0\0\x0b\0\0\0\x0aM\0\0"),
        (backend::encode_backend_key_data(1, &[9; 4]), b"K\0\0\0\x0c\0\0\0\x01\x09\x09\x09\x09"),
        (
            backend::encode_negotiate_protocol_version(0, &["_pq_.x".to_owned()]),
            b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0",
        ),
        (backend::encode_parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0"),
        (backend::encode_command_complete("BEGIN"), b"C\0\0\0\x0aBEGIN\0"),
    ];
    for (frame, bytes) in rows {
        assert_eq!(frame.bytes(), bytes);
    }
    assert_eq!(&startup::encode_ssl_request()[..], b"\0\0\0\x08\x04\xd2\x16\x2f");
    assert_eq!(
        &startup::encode_cancel(1, &[7; 4])[..],
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\x07\x07\x07\x07"
    );
}

#[test]
fn start_up_packets_are_told_apart() {
    let read = |bytes: &[u8]| startup::split(&mut BytesMut::from(bytes), &LIMITS);
    let is = |bytes: &[u8], expected: Startup| read(bytes).is_ok_and(|found| found == Some(expected));
    assert!(is(&startup::encode_ssl_request(), Startup::Ssl));
    assert!(is(b"\0\0\0\x08\x04\xd2\x16\x30", Startup::Gss));
    assert!(is(b"\0\0\0\x08\0\x02\0\0", Startup::Start { version: 2 << 16, parameters: vec![] }));
    for length in [4, 32, 256] {
        let secret = Bytes::from(vec![3; length]);
        let packet = startup::encode_cancel(-5, &secret);
        assert!(is(&packet, Startup::Cancel { process_id: -5, secret }));
    }
    for refused in [
        &startup::encode_cancel(1, &[0; 3])[..],
        &startup::encode_cancel(1, &[0; 257]),
        b"\0\0\0\x08\x04\xd2\x16\x2d",
        b"\0\0\0\x09\x04\xd2\x16\x2f\0",
        b"\0\0\0\x07\0\x03\0",
        b"\0\0\0\x08\0\x03\0\0",
        b"\0\0\0\x0a\0\x03\0\0a\0",
        b"\0\0\0\x0b\0\x03\0\0\0x\0",
        b"\0\0\0\x0c\0\x03\0\0a\0\xff\0",
    ] {
        assert!(read(refused).is_err(), "{refused:?}");
    }
}

#[test]
fn strings_must_be_utf8_and_ended() {
    for body in [&b""[..], b"a", b"\xff\0", b"a\0b"] {
        let mut writer = Writer::new(frontend::QUERY);
        writer.bytes(body);
        assert!(frontend::query_text(&writer.frame()).is_err(), "{body:?}");
    }
}

#[test]
fn bind_holds_formats_to_what_they_can_be() {
    let bind = |parameter_formats: Vec<i16>, parameters: Vec<Option<&'static [u8]>>| {
        let bind = Bind { portal: "", statement: "", parameter_formats, parameters, result_formats: vec![] };
        Bind::view(&bind.encode()).is_ok()
    };
    let two = || vec![None, Some(&b"x"[..])];
    assert!(bind(vec![], two()) && bind(vec![1], two()) && bind(vec![0, 1], two()) && bind(vec![1], vec![]));
    assert!(!bind(vec![2], two()) && !bind(vec![0, 1, 0], two()) && !bind(vec![-1], two()));
}

/// Every view of every message, over one frame: what it says does not matter, that it returns does.
fn look_everywhere(frame: &Frame) {
    let _ = frontend::query_text(frame);
    let _ = Parse::view(frame);
    let _ = Bind::view(frame).map(|bind| bind.parameter_format(3));
    let _ = frontend::target(frame);
    let _ = frontend::execute(frame);
    let _ = frontend::sasl_initial(frame);
    let _ = backend::row_description(frame);
    let _ = backend::parameter_description(frame);
    let _ = ErrorFields::view(frame).map(|fields| (fields.sqlstate().len(), fields.severity().len()));
    let _ = backend::parameter_status(frame);
    let _ = backend::ready_for_query(frame);
    let _ = backend::command_tag(frame);
    let _ = backend::backend_key_data(frame);
    let _ = Authentication::view(frame);
    if let Ok(mut row) = DataRow::view(frame) {
        while row.next().is_ok() {}
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = split(&mut buffer, &LIMITS) {
            look_everywhere(&frame);
        }
        let _ = startup::split(&mut BytesMut::from(&bytes[..]), &LIMITS);
    }

    /// Garbage inside a well-formed frame gets further.
    #[test]
    fn garbage_bodies_never_panic(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut writer = Writer::new(tag);
        writer.bytes(&body);
        look_everywhere(&writer.frame());
    }

    /// A message cut short or with one byte changed gets furthest.
    #[test]
    fn damaged_messages_never_panic(values in values(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let bind = Bind {
            portal: "p",
            statement: "s",
            parameter_formats: vec![1; values.len()],
            parameters: borrowed(&values),
            result_formats: vec![0],
        };
        let mut body = bind.encode().body().to_vec();
        let at = at.index(body.len());
        let mut cut = Writer::new(frontend::BIND);
        cut.bytes(&body[..at]);
        assert!(Bind::view(&cut.frame()).is_err());
        body[at] = byte;
        let mut changed = Writer::new(frontend::BIND);
        changed.bytes(&body);
        look_everywhere(&changed.frame());
    }

    #[test]
    fn parse_survives(name in text(), sql in text(), types in prop::collection::vec(any::<u32>(), 0..5)) {
        let frame = Parse { name: &name, sql: &sql, types: types.clone() }.encode();
        let view = Parse::view(&frame).expect("well-formed");
        assert_eq!((view.name, view.sql, view.types), (&*name, &*sql, types));
    }

    #[test]
    fn bind_survives(portal in text(), statement in text(), values in values(), format in 0..2_i16) {
        let bind = Bind {
            portal: &portal,
            statement: &statement,
            parameter_formats: vec![format; values.len()],
            parameters: borrowed(&values),
            result_formats: vec![format],
        };
        let frame = bind.encode();
        let view = Bind::view(&frame).expect("well-formed");
        assert_eq!((view.portal, view.statement), (&*portal, &*statement));
        assert_eq!(view.parameters, borrowed(&values));
        assert_eq!(view.parameter_formats, vec![format; values.len()]);
        assert_eq!(view.result_formats, vec![format]);
    }

    #[test]
    fn rows_survive(values in values()) {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut builder = DataRowBuilder::begin(&mut out);
        values.iter().for_each(|value| builder.column(value.as_deref()));
        builder.end().expect("a small row");
        let frame = split(&mut out.split_off(6), &LIMITS).expect("well-formed").expect("whole");
        let mut row = DataRow::view(&frame).expect("well-formed");
        assert_eq!(row.columns(), values.len());
        for value in &values {
            assert_eq!(row.next().expect("well-formed"), value.as_deref());
        }
        assert!(row.next().is_err());
    }

    #[test]
    fn descriptions_survive(name in text(), numbers in any::<(u32, i16, u32, i16, i32, i16)>(), count in 0..4_usize) {
        let (table_oid, column_number, type_oid, type_length, type_modifier, format) = numbers;
        let field = Field { name, table_oid, column_number, type_oid, type_length, type_modifier, format };
        let fields = vec![field; count];
        assert_eq!(backend::row_description(&backend::encode_row_description(&fields)), Ok(fields));
        let types = vec![type_oid; count];
        assert_eq!(backend::parameter_description(&backend::encode_parameter_description(&types)), Ok(types));
    }

    #[test]
    fn small_messages_survive(name in text(), value in text(), rows in 0..=i32::MAX.cast_unsigned(), secret in prop::collection::vec(any::<u8>(), 4..40)) {
        assert_eq!(frontend::query_text(&frontend::encode_query(&name)), Ok(&*name));
        assert_eq!(frontend::execute(&frontend::encode_execute(&name, rows)), Ok((&*name, rows)));
        for target in [Target::Statement, Target::Portal] {
            assert_eq!(frontend::target(&frontend::encode_close(target, &name)), Ok((target, &*name)));
        }
        assert_eq!(frontend::sasl_initial(&frontend::encode_sasl_initial(&name, &secret)), Ok((&*name, &*secret)));
        assert_eq!(backend::parameter_status(&backend::encode_parameter_status(&name, &value)), Ok((&*name, &*value)));
        assert_eq!(backend::command_tag(&backend::encode_command_complete(&name)), Ok(&*name));
        assert_eq!(backend::backend_key_data(&backend::encode_backend_key_data(-7, &secret)), Ok((-7, &*secret)));
        let parameters = vec![("user".to_owned(), value.clone()), ("x".to_owned(), name.clone())];
        let read = startup::split(&mut BytesMut::from(&startup::encode_start(&parameters)[..]), &LIMITS);
        let sent = Startup::Start { version: 3 << 16, parameters };
        assert!(read == Ok(Some(sent)));
    }

    #[test]
    fn errors_survive(fields in prop::collection::vec((1..=255_u8, text()), 0..6)) {
        let errors = ErrorFields { fields };
        let frame = errors.encode(backend::ERROR_RESPONSE);
        assert!(ErrorFields::view(&frame) == Ok(errors));
    }

    #[test]
    fn authentication_survives(mechanisms in prop::collection::vec("[A-Z0-9-]{1,16}", 0..3), data in prop::collection::vec(any::<u8>(), 0..40)) {
        for request in [
            Authentication::Ok,
            Authentication::CleartextPassword,
            Authentication::Md5 { salt: [1, 2, 3, 4] },
            Authentication::Sasl { mechanisms },
            Authentication::SaslContinue(data.clone()),
            Authentication::SaslFinal(data),
            Authentication::Other(7),
        ] {
            assert!(Authentication::view(&request.encode()) == Ok(request));
        }
    }
}

#[test]
fn transaction_statuses() {
    let read = |body: &[u8]| {
        let mut writer = Writer::new(backend::READY_FOR_QUERY);
        writer.bytes(body);
        backend::ready_for_query(&writer.frame()).ok()
    };
    assert_eq!(read(b"I"), Some(TransactionStatus::Idle));
    assert_eq!(read(b"T"), Some(TransactionStatus::InTransaction));
    assert_eq!(read(b"E"), Some(TransactionStatus::Failed));
    assert_eq!([read(b""), read(b"X"), read(b"II")], [None; 3]);
}
