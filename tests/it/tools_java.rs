//! Java: pgjdbc and Hibernate do what their users do, through the proxy as over PostgreSQL itself.
//!
//! Both are Debian's packages (scripts/test installs them); `PGVEIL_JARS` names another folder that has them. Compiled into
//! `target/tools/java`.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::foreign;

/// What the programs and Hibernate need, as Debian names it.
const JARS: [&str; 10] = [
    "postgresql",
    "hibernate3",
    "hibernate-commons-annotations",
    "geronimo-jpa_2.0_spec",
    "geronimo-jta-1.2-spec",
    "dom4j",
    "antlr",
    "commons-collections3",
    "javassist",
    "slf4j-api",
];

/// What a pgjdbc that can bind its proof to the channel prints of LogIn.java: the row that `sql` gives, or why there is none.
pub fn log_in(url: &str, sql: &str, properties: &[String]) -> String {
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(pgjdbc());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/java/LogIn.java");
    let output = command.arg(source).args([url, sql]).args(properties).output().expect("java runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "java failed: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Its jar: `scripts/common.sh` knows where to have it from.
fn pgjdbc() -> &'static str {
    static JAR: OnceLock<String> = OnceLock::new();
    JAR.get_or_init(|| foreign::needed("need_pgjdbc", "PGVEIL_PGJDBC"))
}

fn java(class: &str) -> Command {
    let jars = std::env::var("PGVEIL_JARS").unwrap_or_else(|_| "/usr/share/java".to_owned());
    let jars: String = JARS.iter().map(|jar| format!(":{jars}/{jar}.jar")).collect();
    let dir = foreign::prepared("java", |dir: &Path| {
        let hint = "scripts/test installs what is missing; or apt install default-jdk-headless libpostgresql-jdbc-java \
                    libhibernate3-java libjavassist-java";
        let arguments = ["-nowarn", "-cp", &jars, "Jdbc.java", "Hibernate.java"];
        foreign::must(dir, "javac", &arguments, hint);
    });
    let mut command = Command::new("java");
    // One short run each: no time for a better compiler or collector.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Duser.timezone=UTC"]);
    command.args(["--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"]);
    command.arg(format!("{}{jars}", dir.display())).arg(class);
    command
}

#[test]
fn pgjdbc_notices_no_proxy() {
    let about = "Batches, fetch sizes, updatable results, COPY and DatabaseMetaData, in four query modes (tests/tools/java/Jdbc.java).";
    foreign::same("pgjdbc", about, || java("Jdbc"));
}

#[test]
fn hibernate_notices_no_proxy() {
    let about = "Schema creation, update and validation by hbm2ddl; sessions, HQL and criteria (tests/tools/java/Hibernate.java).";
    foreign::same("hibernate", about, || java("Hibernate"));
}
