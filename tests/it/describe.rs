//! What clients are told of types: the logical ones; and how a plan that is out of date is noticed.

use crate::cell::planned;
use crate::golden::shop;
use pgveil::cell::describe::{Stale, declared_upstream, parameter_description, row_description};
use pgveil::wire::backend::Field;

const BYTEA: u32 = 17;
const TEXT: u32 = 25;
const INT8: u32 = 20;

fn field(name: &str, type_oid: u32) -> Field {
    Field {
        name: name.to_owned(),
        table_oid: 20_000,
        column_number: 2,
        type_oid,
        type_length: -1,
        type_modifier: -1,
        format: 1,
    }
}

#[test]
fn opened_columns_have_their_logical_type_and_nothing_else_changes() {
    let shop = shop();
    let plan = planned(&shop, "shop", "SELECT c.id, c.born, o.billing_email FROM customers c, orders o");
    let mut fields = [field("id", INT8), field("born", BYTEA), field("billing_email", BYTEA)];
    row_description(&plan, &shop.catalog, None, &mut fields).unwrap();
    assert_eq!(fields[0], field("id", INT8));
    assert_eq!(fields[1], Field { type_length: 4, ..field("born", 1082) });
    assert_eq!(fields[2], Field { type_modifier: 324, ..field("billing_email", 1043) }, "varchar(320)");
}

#[test]
fn a_plan_that_is_out_of_date_is_noticed() {
    let shop = shop();
    let plan = planned(&shop, "shop", "SELECT id, email FROM customers");
    let described = |fields: &mut [Field]| row_description(&plan, &shop.catalog, None, fields);
    let sealed = |domain: &str| {
        let mut types = shop.catalog.sealed_types.iter();
        *types.find(|(_, sealed)| sealed.domain == domain).unwrap().0
    };
    assert_eq!(described(&mut [field("id", INT8), field("email", sealed("email"))]), Ok(()));
    for other in [TEXT, sealed("card")] {
        assert_eq!(described(&mut [field("id", INT8), field("email", other)]), Err(Stale), "{other}");
    }
    assert_eq!(described(&mut [field("email", BYTEA)]), Err(Stale));
    assert_eq!(parameter_description(&plan, &[], &[INT8]), Err(Stale));
}

#[test]
fn parameters_are_the_clients_own() {
    let shop = shop();
    let text = "INSERT INTO customers (id, email, born) VALUES ($2, $1, $3)";
    let plan = planned(&shop, "shop", text);
    let server: Vec<u32> =
        plan.parameters.iter().map(|slot| if slot.client == 1 { INT8 } else { BYTEA }).collect();
    let told = |declared: &[u32]| parameter_description(&plan, declared, &server).unwrap();
    assert_eq!(told(&[]), [TEXT, INT8, 1082]);
    assert_eq!(told(&[1043, 0, 0]), [1043, INT8, 1082], "as declared");
    let upstream = declared_upstream(&plan, &[1043, 23, 1082]);
    let expected: Vec<u32> =
        plan.parameters.iter().map(|slot| if slot.client == 1 { 23 } else { 0 }).collect();
    assert_eq!(upstream, expected, "sealed ones take their type from the cast");

    // One parameter for two recipes is two to the server and one to the client.
    let plan =
        planned(&shop, "shop", "SELECT id FROM customers WHERE email = $1 OR note = $1 OR email = ANY($2)");
    assert!(plan.parameters.len() > plan.client_parameters);
    let server = vec![BYTEA; plan.parameters.len()];
    let told = parameter_description(&plan, &[TEXT], &server).unwrap();
    assert_eq!(told, [TEXT, 1009]);
}
