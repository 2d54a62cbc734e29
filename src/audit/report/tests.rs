//! A report says what the records say, and a peer's text in it is only text.

use super::*;
use crate::audit::canonical::tests::samples;

fn report(change: impl Fn(&mut AuditRecord)) -> Report {
    let hours = Hours::parse("mon-fri 08:00-18:00 UTC").unwrap();
    let mut report = Report::new(Span { from: 0, to: i64::MAX, hours });
    for mut record in samples() {
        change(&mut record);
        report.take(&record);
    }
    report
}

#[test]
fn it_counts_what_the_records_say() {
    let report = report(|_| {});
    let text = report.markdown();
    for line in [
        "**NOT VERIFIED**: The log was not verified.",
        "18 records: 1 statements by 1 users; 0 cells shown in clear, 2 otherwise; 1 statements refused.",
        "| pii.email | mask:partial | 2 | 2 | 1 | alice |",
        "| pii.email | clear | 0 | 2 | 1 | alice |",
        "| alice | 0 | 2 | 2 | 1 | 0 | 0 |",
        "| alice | 42501 | denied | 1 |",
        "| alice | 10.0.0.7 | 1 |",
        "| alice | broke the glass:",
        "unclean end: 1 records had no checkpoint, 77 bytes were cut |",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for change in [
        "configuration 60303ae2 holds",
        "policy.toml became 6030 ",
        "tags.toml became 11aa ",
        "a person of table public.customers was forgotten: which records speak of them ",
        "all keys were given out at 2026-11-26T11:00:00Z, to age1…",
        "data key pay\"ment: version 2 made at 2026-11-26T11:00:00Z",
        "column public.customers.email of database shop \"ö\": clear → sealed with version 1 ",
    ] {
        assert!(text.contains(change), "{change}\n{text}");
    }
}

#[test]
fn hours_and_spans_are_kept() {
    // 2025-11-24 16:00 was a Monday; three hours later nobody works.
    let late = report(|record| record.time += 3 * 3_600_000_000);
    assert_eq!(late.takers["alice"].out_of_hours, 1);
    assert_eq!(late.hours[19], 1);
    let hours = Hours::parse("mon-fri 08:00-18:00 UTC").unwrap();
    let first = samples()[0].time;
    let mut one = Report::new(Span { from: first, to: first + 1, hours });
    samples().iter().for_each(|record| one.take(record));
    assert_eq!(one.records, 1);
}

#[test]
fn a_peers_text_is_only_text() {
    let evil = "<script>alert(1)</script>\" onload='x' | [a](javascript:b) \u{202e}";
    let report = report(|record| {
        record.connection = record.connection.changed(|connection| connection.user = evil.to_owned());
    });
    let html = report.html();
    assert!(!html.contains("<script") && !html.contains("onload='"), "{html}");
    assert!(html.contains("&lt;script&gt;") && html.contains("\\u{202e}"));
    // It names nothing to fetch.
    assert!(!html.contains("http") || html.matches("http").count() == html.matches("http-equiv").count());
    let markdown = report.markdown();
    assert!(
        markdown.contains("\\<script\\>alert(1)\\</script\\>\" onload='x' \\| \\[a\\](javascript:b)"),
        "{markdown}"
    );
}

#[test]
fn statements_that_a_crash_cut_short_are_incidents() {
    let hours = Hours::parse("mon-fri 08:00-18:00 UTC").unwrap();
    let mut report = Report::new(Span { from: 0, to: i64::MAX, hours });
    // An intent, and then another start.
    for number in [0, 4, 0, 4, 5, 0] {
        report.take(&samples()[number]);
    }
    let told = report.incidents.iter().filter(|incident| incident.what.contains("have no outcome")).count();
    assert_eq!(told, 1, "{:?}", report.incidents);
}
