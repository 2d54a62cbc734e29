//! The metrics of the contract: exactly these, well formed by promtool's judgement, and never a word of a client's.

use crate::docker::promtool;
use pgveil::metrics::{CellOperation, ConnectionState, Direction, Metrics, Outcome};
use std::collections::BTreeSet;
use std::time::Duration;

/// Something in every metric, so that promtool sees them all.
fn full() -> Metrics {
    let metrics = Metrics::new();
    metrics.statement("select", Outcome::Succeeded);
    metrics.statement("drop database clients_secret", Outcome::Refused);
    metrics.refused("denied");
    metrics.cells_sealed("pii.email", 3);
    metrics.cells_opened("pii.email", "mask:partial", 5);
    metrics.rows_released("pii.email", 5);
    metrics.cells_took(CellOperation::Open, 10, Duration::from_micros(2));
    metrics.cells_took(CellOperation::Seal, 0, Duration::from_micros(2));
    metrics.statement_overhead(Duration::from_micros(30));
    metrics.comparisons("pii.email", 1);
    metrics.second_factor("given");
    metrics.glass_broken();
    metrics.plan_looked_up(true);
    metrics.plan_looked_up(false);
    metrics.plan_cache_entries(7);
    metrics.audit_appended(9, Duration::from_millis(2));
    metrics.audit_behind(4);
    metrics.bytes(Direction::ToClient, 1000);
    metrics.config_generation(2);
    metrics.config_read(false);
    metrics.key_provider(true);
    metrics.token_keys(true);
    metrics.sealed_ratios([("public.customers.email", 1.0), ("public.customers.phone", 0.0)]);
    metrics
}

#[test]
fn promtool_finds_nothing_to_say() {
    assert_eq!(promtool(&["check", "metrics"], &full().render()), "");
}

#[test]
fn exactly_the_metrics_of_the_contract() {
    let text = full().render();
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    let contract = BTreeSet::from([
        "pgveil_connections",
        "pgveil_statements_total",
        "pgveil_refusals_total",
        "pgveil_cells_sealed_total",
        "pgveil_cells_opened_total",
        "pgveil_rows_released_total",
        "pgveil_cell_seconds",
        "pgveil_statement_overhead_seconds",
        "pgveil_comparisons_total",
        "pgveil_second_factors_total",
        "pgveil_break_glass_total",
        "pgveil_plan_cache_hits_total",
        "pgveil_plan_cache_misses_total",
        "pgveil_plan_cache_entries",
        "pgveil_audit_records_total",
        "pgveil_audit_append_seconds",
        "pgveil_audit_behind_records",
        "pgveil_bytes_total",
        "pgveil_config_generation",
        "pgveil_config_last_reload_successful",
        "pgveil_key_provider_up",
        "pgveil_token_keys_up",
        "pgveil_sealed_ratio",
        "pgveil_build_info",
    ]);
    assert_eq!(names, contract);
}

#[test]
fn labels_hold_values_of_closed_lists() {
    let text = full().render();
    assert!(!text.contains("clients_secret"), "{text}");
    for line in [
        r#"pgveil_statements_total{kind="other",outcome="refused"} 1"#,
        r#"pgveil_statements_total{kind="select",outcome="succeeded"} 1"#,
        r#"pgveil_cells_opened_total{disclosure="mask:partial",label="pii.email"} 5"#,
        r#"pgveil_cell_seconds_count{operation="open"} 1"#,
        r#"pgveil_cell_seconds_count{operation="seal"} 0"#,
        r#"pgveil_connections{state="idle"} 0"#,
        r#"pgveil_sealed_ratio{column="public.customers.email"} 1"#,
        "pgveil_audit_records_total 9",
        "pgveil_audit_behind_records 4",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }
}

#[test]
fn a_column_that_lost_its_tag_is_forgotten() {
    let metrics = full();
    metrics.sealed_ratios([("public.customers.email", 0.5)]);
    let text = metrics.render();
    assert!(text.contains(r#"pgveil_sealed_ratio{column="public.customers.email"} 0.5"#), "{text}");
    assert!(!text.contains("public.customers.phone"), "{text}");
}

#[test]
fn a_connection_counts_in_one_state_until_it_ends() {
    let metrics = Metrics::new();
    let count = |metrics: &Metrics| {
        [ConnectionState::LoggingIn, ConnectionState::Idle, ConnectionState::Active]
            .map(|state| metrics.connections(state))
    };
    let mut connection = metrics.clone().connection(ConnectionState::LoggingIn);
    assert_eq!(count(&metrics), [1, 0, 0]);
    connection.enter(ConnectionState::Active);
    connection.enter(ConnectionState::Active);
    assert_eq!(count(&metrics), [0, 0, 1]);
    drop(connection);
    assert_eq!(count(&metrics), [0, 0, 0]);
}
