//! A foreign referee: `pgwire` reads what we encode, and encodes the very bytes again.

use super::Frame;
use super::backend::{self, Authentication, ErrorFields, Field};
use super::frontend::{self, Bind, Parse, Target};
use bytes::BytesMut;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};

fn context() -> DecodeContext {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    context
}

#[test]
fn pgwire_reads_our_backend_messages() {
    let field = Field {
        name: "email".into(),
        table_oid: 16_400,
        column_number: 2,
        type_oid: 25,
        type_length: -1,
        type_modifier: -1,
        format: 1,
    };
    let error = ErrorFields::new("ERROR", "42501", "permission denied", Some("D."), Some("H."), Some(8));
    let frames: [Frame; 8] = [
        backend::encode_row_description(&[field]),
        backend::encode_parameter_description(&[25, 1700]),
        backend::encode_command_complete("SELECT 5"),
        backend::encode_parameter_status("TimeZone", "UTC"),
        backend::encode_backend_key_data(7, &[1, 2, 3, 4]),
        error.encode(backend::ERROR_RESPONSE),
        Authentication::Sasl { mechanisms: vec!["SCRAM-SHA-256".into()] }.encode(),
        Authentication::Ok.encode(),
    ];
    for frame in frames {
        let mut bytes = BytesMut::from(&frame.bytes()[..]);
        let read = PgWireBackendMessage::decode(&mut bytes, &context()).expect("valid").expect("whole");
        let mut again = BytesMut::new();
        read.encode(&mut again).expect("encodes");
        assert_eq!(again, frame.bytes()[..], "{}", char::from(frame.tag()));
    }
}

#[test]
fn pgwire_reads_our_frontend_messages() {
    let frames: [Frame; 7] = [
        frontend::encode_query("SELECT 1"),
        Parse { name: "s", sql: "SELECT $1", types: vec![0, 25] }.encode(),
        Bind {
            portal: "p",
            statement: "s",
            parameter_formats: vec![0, 1],
            parameters: vec![None, Some(b"\0\x01")],
            result_formats: vec![1],
        }
        .encode(),
        frontend::encode_describe(Target::Portal, "p"),
        frontend::encode_execute("p", 5),
        frontend::encode_close(Target::Statement, "s"),
        frontend::encode_sync(),
    ];
    for frame in frames {
        let mut bytes = BytesMut::from(&frame.bytes()[..]);
        let read = PgWireFrontendMessage::decode(&mut bytes, &context()).expect("valid").expect("whole");
        let mut again = BytesMut::new();
        read.encode(&mut again).expect("encodes");
        assert_eq!(again, frame.bytes()[..], "{}", char::from(frame.tag()));
    }
}
