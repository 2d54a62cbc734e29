//! Where master keys are kept. What every provider is held to, and what is a token's own: its errors, its PIN, its absence.

use crate::hsm::{PIN, SoftHsm};
use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::transit::TOKEN;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variables that hold one.
const SECRETS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "VAULT_TOKEN"];

const POLICY: &str = "[domain.email]\nlabel = \"pii.email\"\ntype = \"text\"\nseal = \"deterministic\"\n";

/// A folder, and the environment of the commands that work on it.
pub struct Place {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Place {
    pub fn new(keys: &str, environment: Vec<(&'static str, PathBuf)>) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), environment };
        place.write("proxy.toml", keys);
        place.write("tags.toml", "");
        place.write("policy.toml", POLICY);
        place
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    pub fn environment(&self) -> &[(&'static str, PathBuf)] {
        &self.environment
    }
    /// Standard output, standard error and exit code; neither may ever show the PIN.
    pub fn run(&self, arguments: &[&str]) -> (String, String, i32) {
        run(self.dir.path(), &self.environment, arguments)
    }
    pub fn must(&self, arguments: &[&str]) -> String {
        let (said, error, code) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        said
    }
    /// Refused by each command that needs the keys, with this and a hint.
    pub fn refuses(&self, expected: &str) {
        let commands: [&[&str]; 4] =
            [&["keys", "list"], &["keys", "init"], &["serve"], &["check", "--offline"]];
        for command in commands {
            let (_, error, code) = self.run(command);
            assert_eq!(code, 1, "{command:?}: {error}");
            assert!(error.contains(expected), "{command:?}: {expected}\n{error}");
            assert!(error.contains("error: ") && error.contains("\nhint: "), "{error}");
        }
    }
}

pub fn run(dir: &Path, environment: &[(&'static str, PathBuf)], arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.args(arguments).arg("--config").arg(dir).stdin(Stdio::null());
    for variable in ["PGVEIL_MASTER_KEY", "PGVEIL_NEW_MASTER_KEY", "PGVEIL_OLD_MASTER_KEY"] {
        command.env_remove(variable);
    }
    let output = command.envs(environment.iter().cloned()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    // Neither a PIN, a token nor a secret key.
    let secrets = environment.iter().filter(|(name, _)| SECRETS.contains(name)).map(|(_, value)| value);
    for secret in secrets.map(|value| value.to_str().unwrap()).chain([PIN, TOKEN]) {
        assert!(!said.contains(secret) && !error.contains(secret), "a secret shows:\n{said}\n{error}");
    }
    (said, error, output.status.code().unwrap_or(-1))
}

pub fn pkcs11(module: &Path, token: &str, key: &str, pin: &str) -> String {
    format!(
        "[keys]\nprovider = \"pkcs11\"\ncheck_seconds = 1\n\
         pkcs11 = {{ module = \"{}\", token = \"{token}\", key = \"{key}\", {pin} }}\n",
        module.display()
    )
}

const FROM_ENVIRONMENT: &str = "pin = \"${TOKEN_PIN}\"";

/// A folder whose master key is in a token.
pub fn with_token(hsm: &SoftHsm) -> Place {
    let environment = vec![hsm.environment(), ("TOKEN_PIN", PathBuf::from(PIN))];
    Place::new(&pkcs11(hsm.module(), "pgveil", "master", FROM_ENVIRONMENT), environment)
}

/// What every provider does alike.
pub fn conforms(place: &Place, break_it: impl FnOnce(&Place)) {
    let said = place.must(&["keys", "init"]);
    assert!(said.contains("made the keyring"), "{said}");
    assert_eq!(place.must(&["keys", "init"]), "nothing to do: everything is there\n");
    let before = fs::read_to_string(place.path("keyring.json")).unwrap();
    assert_eq!(fs::metadata(place.path("keyring.json")).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = place.must(&["keys", "list", "--json"]);

    // What is changed by someone without the master key is refused.
    place.write("keyring.json", &before.replacen("\"email\": 1", "\"email\": 2", 1));
    place.refuses("it was changed by something that does not have the master key");
    place.write("keyring.json", &before);

    place.must(&["keys", "rotate", "default"]);
    let rotated = fs::read_to_string(place.path("keyring.json")).unwrap();
    assert_ne!(rotated, before);
    assert_ne!(place.must(&["keys", "list", "--json"]), listed);

    // Another master key opens nothing.
    let master = "5c".repeat(32);
    place.write("new.key", &master);
    let new = place.path("new.key").display().to_string();
    place.must(&["keys", "rewrap", "--new-master-key-file", &new]);
    let (_, error, code) = place.run(&["keys", "list"]);
    assert!(code == 1 && error.contains("master key"), "{error}");
    place.write("keyring.json", &rotated);
    place.must(&["keys", "list"]);

    break_it(place);
    let (_, error, code) = place.run(&["keys", "rotate", "default"]);
    assert!(code == 1 && error.contains("\nhint: "), "{error}");
    assert_eq!(fs::read_to_string(place.path("keyring.json")).unwrap(), rotated, "nothing is half done");
}

#[test]
fn every_provider_conforms() {
    conforms(&Place::new("", vec![]), |place| fs::remove_file(place.path("master.key")).unwrap());
    let key = PathBuf::from("ab".repeat(32));
    let from_environment = "[keys]\nmaster_key = \"${PGVEIL_TEST_KEY}\"\n";
    conforms(&Place::new(from_environment, vec![("PGVEIL_TEST_KEY", key)]), |place| {
        place.write("proxy.toml", &from_environment.replace("TEST_KEY", "OTHER_KEY"));
    });
    let hsm = SoftHsm::with("pgveil", "master");
    conforms(&with_token(&hsm), |_| hsm.go_away());
}

#[test]
fn a_token_that_cannot_be_used_is_named_and_its_remedy() {
    let hsm = SoftHsm::with("pgveil", "master");
    let place = with_token(&hsm);
    place.must(&["keys", "init"]);
    assert!(!place.path("master.key").exists(), "the master key is nowhere but in the keyring");

    let proxy_toml = |text: &str| place.write("proxy.toml", text);
    let module = hsm.module();
    proxy_toml(&pkcs11(Path::new("/nowhere/lib.so"), "pgveil", "master", FROM_ENVIRONMENT));
    place.refuses("the PKCS #11 module /nowhere/lib.so cannot be used");
    proxy_toml(&pkcs11(module, "elsewhere", "master", FROM_ENVIRONMENT));
    place.refuses("has no token \"elsewhere\"");
    proxy_toml(&pkcs11(module, "pgveil", "master", "pin = \"8391-token-pin\""));
    place.refuses("token \"pgveil\" does not accept the PIN");
    proxy_toml(&pkcs11(module, "pgveil", "master", "pin_file = \"token.pin\""));
    place.refuses("token.pin");
    place.write("token.pin", &format!("{PIN}\n"));
    place.must(&["keys", "list"]);
    fs::set_permissions(place.path("token.pin"), fs::Permissions::from_mode(0o644)).unwrap();
    place.refuses("has group or world access (mode 0644)");
    proxy_toml(&pkcs11(module, "pgveil", "master", FROM_ENVIRONMENT));

    // The key that wrapped the keyring is gone; another of its name is another key.
    hsm.pkcs11_tool("pgveil", &["--delete-object", "--type", "secrkey", "--label", "master"]);
    place.refuses("token \"pgveil\" has no AES key \"master\"");
    let (_, error, _) = place.run(&["keys", "list"]);
    assert!(error.contains("--keygen --key-type aes:32 --label master"), "{error}");
    hsm.make_key("pgveil", "master");
    place.refuses("key \"master\" of token \"pgveil\" does not open the keyring's master key");
    hsm.make_key("pgveil", "master");
    place.refuses("has 2 AES keys \"master\"");
}

#[test]
fn settings_of_another_provider_are_mistakes() {
    let hsm = SoftHsm::new();
    let whole = pkcs11(hsm.module(), "pgveil", "master", FROM_ENVIRONMENT);
    let refused = |text: &str, expected: &str| {
        let place = Place::new(text, vec![("TOKEN_PIN", PathBuf::from(PIN))]);
        place.refuses(expected);
    };
    refused("[keys]\nprovider = \"pkcs11\"\n", "keys.pkcs11 is missing");
    refused(&whole.replace("provider = \"pkcs11\"\n", ""), "keys.pkcs11 has no effect without provider");
    refused(
        &format!("{whole}master_key_file = \"master.key\"\n"),
        "a master key has no effect with provider",
    );
    refused(&whole.replace("token = \"pgveil\", ", ""), "keys.pkcs11.token is missing");
    refused(&whole.replace(FROM_ENVIRONMENT, ""), "keys.pkcs11 has neither pin nor pin_file");
    refused(
        &whole.replace(FROM_ENVIRONMENT, "pin = \"1\", pin_file = \"pin\""),
        "both pin and pin_file are set",
    );
    refused(&whole.replace("\"pkcs11\"", "\"pkcs12\""), "keys.provider cannot be \"pkcs12\"");
}

/// What OpenSC's spy saw: one log-in a command, and never more of the token's key than its use.
#[test]
fn a_wrong_pin_is_tried_once_and_the_key_never_leaves() {
    let hsm = SoftHsm::with("pgveil", "master");
    let (module, mut environment, log) = hsm.spy();
    environment.push(("TOKEN_PIN", PathBuf::from(PIN)));
    let place = Place::new(&pkcs11(&module, "pgveil", "master", FROM_ENVIRONMENT), environment);
    let calls = |name: &str| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter(|line| line.ends_with(&format!(": {name}"))).count()
    };
    place.must(&["keys", "init"]);
    assert_eq!((calls("C_Login"), calls("C_Encrypt")), (1, 2), "one for the length");
    place.run(&["check", "--offline"]);
    assert_eq!((calls("C_Login"), calls("C_DecryptInit")), (2, 1));
    for never in ["C_WrapKey", "C_UnwrapKey", "C_GetAttributeValue", "C_GenerateKey", "C_CreateObject"] {
        assert_eq!(calls(never), 0, "{never}");
    }
    place.write("proxy.toml", &pkcs11(&module, "pgveil", "master", "pin = \"0000-token-pin\""));
    for (tried, command) in [["check", "--offline"], ["keys", "list"], ["keys", "init"]].iter().enumerate() {
        assert_eq!(place.run(command).2, 1);
        assert_eq!(calls("C_Login"), 3 + tried, "{command:?}");
    }
}

#[test]
fn a_keyring_moves_to_a_token_and_back() {
    let hsm = SoftHsm::with("pgveil", "master");
    let place = with_token(&hsm);
    let by_token = fs::read_to_string(place.path("proxy.toml")).unwrap();
    place.write("proxy.toml", "");
    place.must(&["keys", "init"]);
    let keys = place.must(&["keys", "list", "--json"]);
    let master_file = place.path("master.key").display().to_string();

    place.write("proxy.toml", &by_token);
    place.refuses("was wrapped by a master key of provider file");
    let (_, error, _) = place.run(&["keys", "list"]);
    assert!(error.contains("hint: Run: pgveil keys rewrap --old-master-key-file"), "{error}");
    place.must(&["keys", "rewrap", "--old-master-key-file", &master_file]);
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
    let (_, error, code) = place.run(&["keys", "rewrap", "--old-master-key-file", &master_file]);
    assert!(
        code == 1 && error.contains("wrapped by another master key"),
        "the old one opens nothing: {error}"
    );

    // Another key of the token: what is wrapped names the one that opens it.
    hsm.make_key("pgveil", "next");
    let next = by_token.replace("\"master\"", "\"next\"");
    place.write("proxy.toml", &next);
    let (_, warned, code) = place.run(&["check", "--offline"]);
    assert_eq!(code, 1, "no audit key here: {warned}");
    assert!(
        warned.contains("wrapped by key \"master\"") && warned.contains("Run: pgveil keys rewrap"),
        "{warned}"
    );
    place.must(&["keys", "rewrap"]);
    hsm.pkcs11_tool("pgveil", &["--delete-object", "--type", "secrkey", "--label", "master"]);
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);

    let new = "0f".repeat(32);
    place.write("new.key", &new);
    let file = place.path("new.key").display().to_string();
    place.must(&["keys", "rewrap", "--new-master-key-file", &file]);
    place.write("proxy.toml", "[keys]\nmaster_key_file = \"new.key\"\n");
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
    assert!(!fs::read_to_string(place.path("keyring.json")).unwrap().contains("pkcs11"));
}

/// The value of a metric without labels.
pub fn metric(proxy: &Proxy, name: &str) -> Option<String> {
    let (_, text) = proxy.get("/metrics")?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

#[test]
fn a_proxy_outlives_the_outage_of_its_token() {
    let hsm = SoftHsm::with("pgveil", "master");
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let shop = proxy.url("shop");
    postgres::execute(
        &shop,
        "create table customers (id int primary key, email text, card text, joined date)",
    );
    postgres::execute(&shop, "insert into customers values (1, 'ann@example.com', 'c', '2020-01-01')");
    let emails =
        |proxy: &Proxy| postgres::query(&proxy.url("shop"), "select email from customers order by id");
    let ann = [[Some("ann@example.com".to_owned())]];

    // From a file into the token, while it serves.
    let (file, spy) = (proxy.dir().join("proxy.toml"), hsm.spy());
    let (module, mut environment, log) = spy;
    environment.push(("TOKEN_PIN", PathBuf::from(PIN)));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + &pkcs11(&module, "pgveil", "master", FROM_ENVIRONMENT)).unwrap();
    let master = proxy.dir().join("master.key");
    let rewrap = ["keys", "rewrap", "--old-master-key-file", &master.display().to_string()];
    let (_, error, code) = run(proxy.dir(), &environment, &rewrap);
    assert_eq!(code, 0, "{error}");
    fs::remove_file(&master).unwrap();
    assert_eq!(emails(&proxy), ann);
    proxy.signal("TERM");
    proxy.wait();
    let variables = environment.clone();
    proxy.serve_with(|mut serve| {
        serve.envs(variables);
        serve
    });
    assert_eq!(emails(&proxy), ann);
    assert_eq!(metric(&proxy, "pgveil_key_provider_up").as_deref(), Some("1"));

    hsm.go_away();
    eventually("the outage", || metric(&proxy, "pgveil_key_provider_up").as_deref() == Some("0"));
    assert!(proxy.log().contains("has no token"), "{}", proxy.log());
    assert_eq!(proxy.get("/readyz").unwrap().0, 200, "it has its keys");
    postgres::execute(&shop, "insert into customers values (2, 'bob@example.com', 'd', '2021-01-01')");
    proxy.reload("the new configuration holds");
    assert_eq!(emails(&proxy).len(), 2);
    assert_eq!(run(proxy.dir(), &environment, &["keys", "list"]).2, 1, "a new process gets no keys");
    hsm.come_back();
    eventually("its end", || metric(&proxy, "pgveil_key_provider_up").as_deref() == Some("1"));
    assert!(proxy.log().contains("the keys can be had again"));

    // A PIN that was changed: the old one is tried once, and not each second.
    hsm.pkcs11_tool("pgveil", &["--change-pin", "--new-pin", "2222-other-pin"]);
    eventually("the wrong PIN", || metric(&proxy, "pgveil_key_provider_up").as_deref() == Some("0"));
    let tried = || fs::read_to_string(&log).unwrap().matches(": C_Login").count();
    let before = tried();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(tried(), before, "one try");
    proxy.reload("the new configuration holds");
    eventually("a try after the reload", || tried() > before);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(tried(), before + 1);
    assert_eq!(emails(&proxy).len(), 2);
    assert!(!proxy.log().contains(PIN) && !proxy.log().contains("2222-other-pin"));
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
}
