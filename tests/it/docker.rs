//! What can be checked of `docker/` without a container engine: alert rules and their unit tests (promtool), metric names,
//! the dashboard, the compose file's hardening, the Dockerfile's sources and the configuration that the image carries.
//!
//! It deliberately builds no image and starts no container.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::python;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs promtool in `docker/prometheus`, with `input`; what it said. It has to be there.
pub fn promtool(arguments: &[&str], input: &str) -> String {
    let program = std::env::var_os("PGVEIL_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(root().join("docker/prometheus"));
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        panic!("{}: {error}\nhint: apt install prometheus, or run scripts/test", program.to_string_lossy())
    });
    // One that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {}:\n{text}", arguments.join(" "));
    text
}

/// The names of metrics in a text, without the suffixes that a histogram's series have.
fn metric_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, prefix) in text.match_indices("pgveil_") {
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..end];
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        names.insert(base.to_owned());
    }
    names
}

/// What `src/metrics.rs` registers: the first literal of each constructor's call.
fn registered() -> BTreeSet<String> {
    let source = read("src/metrics.rs");
    let mut names = BTreeSet::new();
    for call in ["m.counter(", "m.counters(", "m.gauge(", "m.gauges(", "m.seconds(", "Opts::new("] {
        for (at, _) in source.match_indices(call) {
            let rest = source[at + call.len()..].trim_start();
            if let Some(literal) = rest.strip_prefix('"') {
                names.insert(literal.split('"').next().unwrap_or_default().to_owned());
            }
        }
    }
    // `.gauge(` after a line break.
    for (at, _) in source.match_indices("\n                .gauge(") {
        let literal = source[at..].split('"').nth(1).unwrap_or_default();
        names.insert(literal.to_owned());
    }
    assert!(names.contains("connections") && names.contains("sealed_ratio"), "{names:?}");
    names
}

#[test]
fn prometheus_accepts_configuration_and_rules() {
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "alerts.yml"], "");
}

#[test]
fn alerts_fire_when_they_must() {
    promtool(&["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn every_alert_is_tested() {
    let (rules, tests) = (read("docker/prometheus/alerts.yml"), read("docker/prometheus/alerts_test.yml"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = tests.contains(&format!("alertname: {name}\n        exp_alerts:\n"));
        assert!(
            fires && tests.contains(&format!("alertname: {name}, exp_alerts: [] }}")),
            "{name} needs both tests"
        );
    }
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let registered = registered();
    for path in ["docker/prometheus/alerts.yml", "docker/grafana/dashboards/pgveil.json"] {
        let unknown: Vec<String> = metric_names(&read(path)).difference(&registered).cloned().collect();
        assert!(unknown.is_empty(), "{path} names metrics that pgveil does not have: {unknown:?}");
    }
    let shown = metric_names(&read("docker/grafana/dashboards/pgveil.json"));
    let hidden: Vec<&String> = registered.difference(&shown).collect();
    assert!(hidden.is_empty(), "not on the dashboard: {hidden:?}");
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docker/grafana/dashboards/pgveil.json")).unwrap();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{} twice", panel["id"]);
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "prometheus", "{}", panel["title"]);
            assert!(!panel["description"].as_str().unwrap_or_default().is_empty(), "{}", panel["title"]);
            assert!(!panel["targets"].as_array().expect("targets").is_empty(), "{}", panel["title"]);
        }
    }
    let source = read("docker/grafana/provisioning/datasources/prometheus.yaml");
    assert!(source.contains("uid: prometheus\n"));
}

#[test]
fn the_dockerfile_copies_what_exists() {
    let dockerfile = read("docker/Dockerfile");
    let ignore = read(".dockerignore");
    let mut copied = 0;
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
        let words: Vec<&str> =
            line.split_whitespace().skip(1).filter(|word| !word.starts_with("--")).collect();
        let (_, sources) = words.split_last().expect("a destination");
        for source in sources {
            assert!(root().join(source).exists(), "{line}");
            assert!(
                ignore.lines().any(|kept| kept == format!("!{}", source.trim_end_matches('/'))),
                "{line}: not in .dockerignore"
            );
            copied += 1;
        }
    }
    assert!(copied >= 4);
    let user = dockerfile.rfind("\nUSER 10001").expect("not root");
    assert!(
        dockerfile.rfind("\nFROM ").expect("a stage") < user
            && user < dockerfile.find("\nENTRYPOINT").expect("an entry point")
    );
}

/// Compose's own rules, read with a YAML parser: every service is hardened, watched and bound to the loopback; what is
/// mounted exists; no secret stands in the file.
const CHECK_COMPOSE: &str = r#"
import os, sys, yaml
path = sys.argv[1]
text = open(path).read()
compose = yaml.safe_load(text)
here = os.path.dirname(path)
services = compose["services"]
assert {"postgres", "pgveil", "prometheus", "grafana"} <= set(services), services.keys()
for name, service in services.items():
    assert service.get("read_only") is True, name
    assert service.get("cap_drop") == ["ALL"], name
    assert "no-new-privileges:true" in service.get("security_opt", []), name
    assert "healthcheck" in service, name
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), (name, port)
    for key, value in service.get("environment", {}).items():
        assert not any(word in key for word in ("PASSWORD", "SECRET", "KEY")), (name, key)
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert os.path.exists(os.path.join(here, source)), (name, source)
        else:
            assert source in compose["volumes"], (name, source)
    for network in service["networks"]:
        assert network in compose["networks"], (name, network)
    for other in service.get("depends_on", {}):
        assert other in services, (name, other)
    if "env_file" in service:
        made = os.path.basename(service["env_file"])
        assert "write " + made in open(os.path.join(here, "prepare")).read(), made
assert services["postgres"].get("ports") is None
assert services["postgres"]["networks"] == ["database"] and compose["networks"]["database"]["internal"]
for folder, _, files in os.walk(here):
    for file in files:
        if file.endswith((".yml", ".yaml")):
            yaml.safe_load(open(os.path.join(folder, file)))
"#;

#[test]
fn compose_hardens_every_service() {
    python::run(&["-c", CHECK_COMPOSE, &root().join("docker/compose.yaml").display().to_string()], &[]);
}

#[test]
fn prepare_makes_secrets_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("prepare");
    fs::copy(root().join("docker/prepare"), &script).unwrap();
    let run = || assert!(Command::new("bash").arg(&script).output().unwrap().status.success());
    let secrets = || {
        ["postgres.env", "pgveil.env", "grafana.env"]
            .map(|name| fs::read_to_string(dir.path().join("secrets").join(name)).unwrap())
    };
    run();
    let first = secrets();
    let service = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("PGVEIL_SERVICE_PASSWORD=").map(str::to_owned))
            .unwrap()
    };
    assert_eq!(service(&first[0]), service(&first[1]));
    assert!(
        first[1]
            .lines()
            .any(|line| line.starts_with("PGVEIL_MASTER_KEY=")
                && line.len() == "PGVEIL_MASTER_KEY=".len() + 64)
    );
    run();
    assert_eq!(first, secrets());
    assert!(Path::new(&script).exists());
}

#[test]
fn the_images_configuration_holds() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["proxy.toml", "tags.toml", "policy.toml"] {
        // What compose gives by environment.
        let text = read(&format!("docker/pgveil/{name}"))
            .replace("${PGVEIL_MASTER_KEY}", &"5a".repeat(32))
            .replace("${PGVEIL_SERVICE_PASSWORD}", "x");
        assert!(!text.contains("${"), "{name}: compose sets no other variable");
        fs::write(dir.path().join(name), text).unwrap();
    }
    let config =
        pgveil::config::load_unprepared(dir.path()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!(config.policy.rules.len(), 2);
    // The service user reads the catalog of the database that compose makes.
    assert_eq!(config.settings.database.service_database, "app");
    assert!(read("docker/compose.yaml").contains("POSTGRES_DB: app\n"));
}
