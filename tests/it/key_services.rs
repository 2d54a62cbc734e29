//! Master keys that a service keeps: AWS KMS (moto) and the transit engine of Vault (a server of our own, `transit`).

use crate::key_providers::{Place, conforms, metric, run};
use crate::moto::{Moto, REGION};
use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::transit::{TOKEN, Transit};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn kms(key: &str, more: &str) -> String {
    format!("[keys]\nprovider = \"aws_kms\"\ncheck_seconds = 1\naws_kms = {{ key = \"{key}\", {more} }}\n")
}

/// By endpoint and region that stand there.
fn kms_at(moto: &Moto, key: &str) -> String {
    kms(key, &format!("endpoint = \"{}\", region = \"{REGION}\"", moto.address))
}

fn with_kms(moto: &Moto) -> Place {
    Place::new(&kms_at(moto, "alias/pgveil"), moto.environment())
}

fn vault(transit: &Transit, key: &str, more: &str) -> String {
    let (address, ca) = (transit.address(), transit.ca().display());
    format!(
        "[keys]\nprovider = \"vault\"\ncheck_seconds = 1\nvault = {{ address = \"{address}\", ca = \"{ca}\", key = \"{key}\", {more} }}\n"
    )
}

const FROM_ENVIRONMENT: &str = "token = \"${VAULT_TOKEN}\"";

fn with_vault(transit: &Transit) -> Place {
    Place::new(&vault(transit, "pgveil", FROM_ENVIRONMENT), vec![("VAULT_TOKEN", PathBuf::from(TOKEN))])
}

/// What the keyring says of its master key.
fn stored(place: &Place) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(place.path("keyring.json")).unwrap()).unwrap()
}

/// The keyring with another identity, which someone without the master key gave it.
fn disguise(place: &Place) {
    let text = fs::read_to_string(place.path("keyring.json")).unwrap();
    let identity = stored(place)["identity"].as_str().unwrap().to_owned();
    assert_eq!(identity.len(), 32);
    place.write("keyring.json", &text.replace(&identity, &"0".repeat(32)));
}

#[test]
fn services_conform() {
    let mut moto = Moto::start();
    conforms(&with_kms(&moto), |_| moto.go_away());
    let transit = Transit::start();
    conforms(&with_vault(&transit), |_| transit.state().away = true);
}

#[test]
fn kms_names_the_key_and_the_remedy() {
    let moto = Moto::start();
    let place = with_kms(&moto);
    place.must(&["keys", "init"]);
    assert!(!place.path("master.key").exists(), "the master key is nowhere but in the keyring");
    let master = stored(&place)["master"].clone();
    assert_eq!((&master["key"], &master["named"]), (&moto.key.as_str().into(), &"alias/pgveil".into()));
    // The alias may lead elsewhere; an ARN, and the id alone, name the same key.
    moto.administer("other = kms.create_key()['KeyMetadata']['Arn']; kms.update_alias(AliasName='alias/pgveil', TargetKeyId=other)");
    let id = moto.key.rsplit('/').next().unwrap();
    for key in ["alias/pgveil", &moto.key, id] {
        place.write("proxy.toml", &kms_at(&moto, key));
        let (_, said, _) = place.run(&["check", "--offline"]);
        assert!(!said.contains("KMS key") && !said.contains("is wrapped by key"), "{key}: {said}");
    }

    let before = fs::read_to_string(place.path("keyring.json")).unwrap();
    disguise(&place);
    place.refuses("does not open the keyring's master key (InvalidCiphertextException)");
    place.write("keyring.json", &before);

    moto.administer("iam.delete_user_policy(UserName='user', PolicyName='all')");
    place.refuses(&format!("KMS key \"{}\" cannot be used: 403", moto.key));
    moto.open();
    place.write("proxy.toml", &kms_at(&moto, "alias/nobody"));
    place.must(&["keys", "list"]);
    fs::remove_file(place.path("keyring.json")).unwrap();
    let (_, error, code) = place.run(&["keys", "init"]);
    assert!(
        code == 1 && error.contains("KMS key \"alias/nobody\" cannot be used: NotFoundException"),
        "{error}"
    );
    assert!(error.contains("\nhint: Correct keys.aws_kms.key and region"), "{error}");
}

/// Answers as a container's host does, for who has its token, as EKS and ECS give one.
fn container(id: &str, secret: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/credentials", listener.local_addr().unwrap());
    let body = format!(
        "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\",\"Token\":\"session\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines: Vec<String> = BufReader::new(&stream)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let knows = lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: of-the-container"));
            let (status, body) = if knows { (200, body.as_str()) } else { (401, "{}") };
            let head =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // Whoever hung up wants no answer.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address
}

/// A signature is only as good as the secret, and nobody becomes someone else.
#[test]
fn credentials_are_found_where_aws_looks() {
    let moto = Moto::start();
    with_kms(&moto).must(&["keys", "init"]);
    let (id, secret) = moto.user.clone();
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let credentials =
        file("credentials", &format!("[pgveil]\n{keys}[wrong]\n{}", keys.replace("key = ", "key = x")));
    let process = file(
        "credentials.sh",
        &format!(
            "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\"}}'\n"
        ),
    );
    fs::set_permissions(&process, fs::Permissions::from_mode(0o755)).unwrap();
    let role = moto.administer(
        "import json\n\
         trust = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Principal': {'AWS': '*'}}]})\n\
         allow = lambda *actions: json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': actions, 'Resource': '*'}]})\n\
         role = iam.create_role(RoleName='keys', AssumeRolePolicyDocument=trust)['Role']['Arn']\n\
         iam.put_role_policy(RoleName='keys', PolicyName='all', PolicyDocument=allow('kms:Encrypt', 'kms:Decrypt'))\n\
         iam.put_user_policy(UserName='user', PolicyName='all', PolicyDocument=allow('kms:Encrypt', 'kms:Decrypt', 'sts:AssumeRole'))\n\
         print(role)",
    );
    let role = role.trim();
    let config = file(
        "config",
        &format!(
            "[profile pgveil]\nregion = {REGION}\n[profile role]\nrole_arn = {role}\nsource_profile = pgveil\nregion = {REGION}\n\
             [profile process]\ncredential_process = {}\nregion = {REGION}\n\
             [profile factor]\nrole_arn = {role}\nsource_profile = pgveil\nmfa_serial = 1\n",
            process.display()
        ),
    );
    let environment = |more: &[(&'static str, &str)]| {
        let mut environment = vec![
            ("AWS_CONFIG_FILE", config.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.clone()),
            ("AWS_EC2_METADATA_DISABLED", PathBuf::from("true")),
            ("AWS_ENDPOINT_URL", PathBuf::from(&moto.address)),
            // Empty is not set.
            ("AWS_SESSION_TOKEN", PathBuf::new()),
        ];
        environment.extend(more.iter().map(|(name, value)| (*name, PathBuf::from(value))));
        environment
    };
    let tried = |more: &str, variables: &[(&'static str, &str)]| {
        let place = Place::new(&kms("alias/pgveil", more), environment(variables));
        let (said, error, code) = place.run(&["keys", "init"]);
        assert!(!error.contains(&secret) && !said.contains(&secret), "{error}");
        if code == 0 { place.must(&["keys", "list"]) } else { error }
    };
    let good = |more: &str, variables: &[(&'static str, &str)]| {
        let said = tried(more, variables);
        assert!(said.contains("default"), "{more} {variables:?}: {said}");
    };
    good("profile = \"pgveil\"", &[]);
    good("", &[("AWS_PROFILE", "pgveil")]);
    good("profile = \"process\"", &[]);
    let region = ("AWS_REGION", REGION);
    good("", &[region, ("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)]);
    // A profile that is named comes before the environment.
    good(
        "profile = \"pgveil\"",
        &[("AWS_ACCESS_KEY_ID", "wrong"), ("AWS_SECRET_ACCESS_KEY", "wrong-secret")],
    );

    let bad = |more: &str, variables: &[(&'static str, &str)], expected: &str| {
        let said = tried(more, variables);
        assert!(said.contains(expected) && said.contains("\nhint: "), "{more} {variables:?}: {said}");
    };
    bad("profile = \"wrong\"", &[region], "KMS key \"alias/pgveil\" cannot be used: 403 Forbidden");
    bad("profile = \"factor\"", &[region], "needs a second factor");
    bad("profile = \"nobody\"", &[region], "no AWS credentials were found: profile \"nobody\" has none");
    bad("", &[region], "no AWS credentials were found: neither the environment, profile \"default\"");
    bad("profile = \"pgveil\", region = \"mars/1\"", &[("AWS_ENDPOINT_URL", "")], "\"mars/1\" is no region");
    bad("", &[("AWS_PROFILE", "wrong")], "the region of KMS key \"alias/pgveil\" is not known");
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
    bad("", &[region, token, ("AWS_ROLE_ARN", role)], "no AWS credentials from the web identity");
    let remote = ("AWS_ENDPOINT_URL_KMS", "http://kms.example.org");
    bad("profile = \"pgveil\"", &[remote], "only this machine");

    // moto makes another signature of a request with a query than AWS does.
    moto.open();
    good("profile = \"role\"", &[]);
    let container = container(&id, &secret);
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str());
    good("", &[region, full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-container")]);
    bad("", &[region, full], "no AWS credentials from the container");
    let elsewhere = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/credentials");
    bad("", &[region, elsewhere], "no AWS credentials from the container");
    let (instance, on) = (moto.address.as_str(), ("AWS_EC2_METADATA_DISABLED", "false"));
    good("", &[region, on, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance)]);
    bad("", &[region, on, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")], "nor the instance (");
    // Nor has the exchange of a web identity's token one.
    let token = file("token", "header.payload.signature\n").display().to_string();
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str());
    good("", &[region, token, ("AWS_ROLE_ARN", role), ("AWS_PROFILE", "nobody")]);
}

#[test]
fn vault_names_the_key_and_the_remedy() {
    let transit = Transit::start();
    let place = with_vault(&transit);
    place.must(&["keys", "init"]);
    assert!(!place.path("master.key").exists(), "the master key is nowhere but in the keyring");
    let heard: Vec<String> = transit.state().heard.iter().map(|(line, _)| line.clone()).collect();
    assert_eq!(heard, ["POST /v1/transit/encrypt/pgveil", "POST /v1/transit/decrypt/pgveil"]);
    let before = fs::read_to_string(place.path("keyring.json")).unwrap();
    disguise(&place);
    place.refuses("does not open the keyring's master key (400: cipher: message authentication failed)");
    place.write("keyring.json", &before);
    let hinted = |expected: &str| {
        let (_, error, code) = place.run(&["keys", "list"]);
        assert!(code == 1 && error.contains(expected), "{error}");
    };

    // A new version wraps what comes next, and the old one opens what is there until it is barred.
    transit.rotate("pgveil");
    place.must(&["keys", "list"]);
    transit.state().keys.get_mut("pgveil").unwrap().min_decryption_version = 2;
    place.refuses("(too old)");
    hinted(
        "hint: Allow its version again (vault write transit/keys/pgveil/config min_decryption_version=…), then run: pgveil keys rewrap",
    );
    transit.state().keys.get_mut("pgveil").unwrap().min_decryption_version = 1;
    place.must(&["keys", "rewrap"]);
    transit.state().keys.get_mut("pgveil").unwrap().min_decryption_version = 2;
    place.must(&["keys", "list"]);

    transit.state().may = vec!["transit/encrypt/"];
    place.refuses(&format!("key \"pgveil\" of transit at {} cannot be used: 403", transit.address()));
    hinted("path \"transit/decrypt/pgveil\" { capabilities = [\"update\"] }");
    // It is not enough that it wraps: what nothing opens is not written.
    let kept = fs::read(place.path("keyring.json")).unwrap();
    fs::remove_file(place.path("keyring.json")).unwrap();
    assert_eq!(place.run(&["keys", "init"]).2, 1);
    assert!(!place.path("keyring.json").exists());
    fs::write(place.path("keyring.json"), kept).unwrap();
    fs::set_permissions(place.path("keyring.json"), fs::Permissions::from_mode(0o600)).unwrap();

    transit.state().may = vec!["transit/", "elsewhere/"];
    place
        .write("proxy.toml", &vault(&transit, "pgveil", "mount = \"elsewhere\", token = \"${VAULT_TOKEN}\""));
    place.refuses("of elsewhere at");
    hinted("vault secrets enable -path=elsewhere transit");
    place.write("proxy.toml", &vault(&transit, "pgveil", FROM_ENVIRONMENT));
    transit.state().sealed = true;
    hinted("503: Vault is sealed");
    transit.state().sealed = false;
    let removed = transit.state().keys.remove("pgveil").unwrap();
    place.refuses("encryption key not found");
    transit.state().keys.insert("pgveil".to_owned(), removed);
    // A key that is derived has another secret for each keyring.
    transit.state().keys.get_mut("pgveil").unwrap().derived = true;
    hinted("message authentication failed");
    fs::remove_file(place.path("keyring.json")).unwrap();
    place.must(&["keys", "init"]);
    // A few too many requests are no reason to give up.
    transit.state().throttled = 2;
    place.must(&["keys", "list"]);
    transit.state().throttled = 100;
    hinted("rate limit quota exceeded");
    transit.state().throttled = 0;

    // Whom it does not trust hears no token.
    let heard = transit.state().heard.len();
    let other = Transit::start();
    let text = vault(&transit, "pgveil", FROM_ENVIRONMENT);
    place.write(
        "proxy.toml",
        &text.replace(&transit.ca().display().to_string(), &other.ca().display().to_string()),
    );
    hinted("does not do TLS that can be trusted");
    assert_eq!(transit.state().heard.len(), heard);
}

/// What no machine of ours could do yet. `vault server -dev` (or `bao`), then `vault secrets enable transit` and
/// `vault write -f transit/keys/pgveil`; VAULT_ADDR and VAULT_TOKEN say where and who.
#[test]
#[ignore = "needs a real Vault or OpenBao, named by VAULT_ADDR and VAULT_TOKEN"]
fn a_real_server_conforms() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let address = variable("VAULT_ADDR");
    let own = |key: &str| {
        format!(
            "[keys]\nprovider = \"vault\"\nvault = {{ address = \"{address}\", key = \"{key}\", {FROM_ENVIRONMENT} }}\n"
        )
    };
    let place = Place::new(&own("pgveil"), vec![("VAULT_TOKEN", PathBuf::from(variable("VAULT_TOKEN")))]);
    conforms(&place, |place| {
        place.write("proxy.toml", &own("pgveil").replace(&address, "https://127.0.0.1:1"))
    });
    place.write("proxy.toml", &own("pgveil"));
    disguise(&place);
    place.refuses("message authentication failed");
}

#[test]
fn vaults_token_and_namespace_are_what_is_set() {
    let transit = Transit::start();
    transit.state().namespace = Some("team/a");
    let set = "namespace = \"team/a\", token_file = \"vault.token\"";
    let place = Place::new(&vault(&transit, "pgveil", set), vec![]);
    let (_, error, code) = place.run(&["keys", "init"]);
    assert!(
        code == 1 && error.contains("vault.token") && error.contains("Write the token of Vault"),
        "{error}"
    );
    place.write("vault.token", &format!("{TOKEN}\n"));
    place.must(&["keys", "init"]);
    // An agent renewed it.
    transit.state().token = "hvs.the-next-token".to_owned();
    place.refuses("403");
    place.write("vault.token", "hvs.the-next-token");
    place.must(&["keys", "list"]);
    fs::set_permissions(place.path("vault.token"), fs::Permissions::from_mode(0o640)).unwrap();
    place.refuses("has group or world access (mode 0640)");
    place.write("proxy.toml", &vault(&transit, "pgveil", "token = \"hvs.the-next-token\""));
    place.refuses("403: 1 error occurred: * permission denied");

    let refused = |text: &str, expected: &str| Place::new(text, vec![]).refuses(expected);
    let whole = vault(&transit, "pgveil", "token_file = \"t\"");
    refused("[keys]\nprovider = \"vault\"\n", "keys.vault is missing");
    refused("[keys]\nprovider = \"aws_kms\"\n", "keys.aws_kms is missing");
    refused(&whole.replace("provider = \"vault\"\n", ""), "keys.vault has no effect without provider");
    refused(&whole.replace("token_file", "token = \"a\", token_file"), "both token and token_file are set");
    refused(&whole.replace(", token_file = \"t\"", ""), "keys.vault has neither token nor token_file");
    refused(&whole.replace("https://localhost", "http://vault.example.org"), "only this machine");
    refused(&whole.replace("\"pgveil\"", "\"../pgveil\""), "is not the name of a mount or key");
    refused(&kms("k", "endpoint = \"http://kms.example.org\""), "only this machine");
    refused(
        &format!("{whole}master_key_file = \"master.key\"\n"),
        "a master key has no effect with provider",
    );
}

#[test]
fn a_keyring_moves_between_all_who_keep_master_keys() {
    let (moto, transit, hsm) =
        (Moto::start(), Transit::start(), crate::hsm::SoftHsm::with("pgveil", "master"));
    let mut environment = moto.environment();
    let pin = ("TOKEN_PIN", PathBuf::from(crate::hsm::PIN));
    environment.extend([("VAULT_TOKEN", PathBuf::from(TOKEN)), hsm.environment(), pin]);
    let place = Place::new("", environment);
    place.must(&["keys", "init"]);
    let keys = place.must(&["keys", "list", "--json"]);
    let settings = [
        kms_at(&moto, "alias/pgveil"),
        vault(&transit, "pgveil", FROM_ENVIRONMENT),
        crate::key_providers::pkcs11(hsm.module(), "pgveil", "master", "pin = \"${TOKEN_PIN}\""),
        kms_at(&moto, "alias/pgveil"),
    ];
    place.write("proxy.toml", &settings[0]);
    place.refuses("was wrapped by a master key of provider file");
    let file = place.path("master.key").display().to_string();
    place.must(&["keys", "rewrap", "--old-master-key-file", &file]);
    let identity = stored(&place)["identity"].clone();
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
    let before = place.path("before.toml").display().to_string();
    for pair in settings.windows(2) {
        place.write("before.toml", &pair[0]);
        place.write("proxy.toml", &pair[1]);
        place.refuses("was wrapped by key");
        let (_, error, _) = place.run(&["keys", "list"]);
        assert!(error.contains("hint: Run: pgveil keys rewrap --old-config FILE"), "{error}");
        place.must(&["keys", "rewrap", "--old-config", &before]);
        assert_eq!(place.must(&["keys", "list", "--json"]), keys);
        assert_eq!(stored(&place)["identity"], identity);
    }
    // And what opened it before opens nothing any more.
    let (_, error, code) = place.run(&["keys", "rewrap", "--old-config", &before]);
    assert!(code == 1 && error.contains("keys.provider is pkcs11"), "{error}");
    place.write("new.key", &"0f".repeat(32));
    let file = place.path("new.key").display().to_string();
    place.must(&["keys", "rewrap", "--new-master-key-file", &file]);
    place.write("proxy.toml", "[keys]\nmaster_key_file = \"new.key\"\n");
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
}

#[test]
fn a_proxy_outlives_the_outage_of_its_service() {
    let (moto, transit) = (Moto::start(), Transit::start());
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let shop = proxy.url("shop");
    postgres::execute(
        &shop,
        "create table customers (id int primary key, email text, card text, joined date)",
    );
    postgres::execute(&shop, "insert into customers values (1, 'ann@example.com', 'c', '2020-01-01')");
    let emails = |proxy: &Proxy| postgres::query(&proxy.url("shop"), "select email from customers").len();

    // From a file to Vault, and started again there.
    let (file, mut environment) = (proxy.dir().join("proxy.toml"), moto.environment());
    environment.push(("VAULT_TOKEN", PathBuf::from(TOKEN)));
    let plain = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{plain}{}", vault(&transit, "pgveil", FROM_ENVIRONMENT))).unwrap();
    let rewrap = |proxy: &Proxy, option: &str, name: &str| {
        let from = proxy.dir().join(name).display().to_string();
        let (_, error, code) = run(proxy.dir(), &environment, &["keys", "rewrap", option, &from]);
        assert_eq!(code, 0, "{error}");
    };
    rewrap(&proxy, "--old-master-key-file", "master.key");
    fs::remove_file(proxy.dir().join("master.key")).unwrap();
    proxy.signal("TERM");
    proxy.wait();
    let variables = environment.clone();
    proxy.serve_with(|mut serve| {
        serve.envs(variables);
        serve
    });
    let up = |proxy: &Proxy, value: &str| metric(proxy, "pgveil_key_provider_up").as_deref() == Some(value);
    assert!(up(&proxy, "1") && emails(&proxy) == 1);
    transit.state().away = true;
    eventually("the outage", || up(&proxy, "0"));
    assert!(proxy.log().contains("key \\\"pgveil\\\" of transit at"), "{}", proxy.log());
    assert_eq!(proxy.get("/readyz").unwrap().0, 200, "it has its keys");
    proxy.reload("the new configuration holds");
    assert_eq!(emails(&proxy), 1);
    assert_eq!(run(proxy.dir(), &environment, &["keys", "list"]).2, 1, "a new process gets no keys");
    transit.state().away = false;
    eventually("its end", || up(&proxy, "1"));

    // To KMS while it serves; there it hangs, and comes back.
    fs::copy(&file, proxy.dir().join("before.toml")).unwrap();
    fs::write(&file, format!("{plain}{}", kms_at(&moto, "alias/pgveil"))).unwrap();
    rewrap(&proxy, "--old-config", "before.toml");
    proxy.reload("the new configuration holds");
    assert!(emails(&proxy) == 1 && up(&proxy, "1"));
    moto.signal("STOP");
    eventually("the outage", || up(&proxy, "0"));
    assert!(proxy.log().contains("does not answer in time"), "{}", proxy.log());
    proxy.reload("the new configuration holds");
    assert_eq!(emails(&proxy), 1);
    moto.signal("CONT");
    eventually("its end", || up(&proxy, "1"));
    assert!(!proxy.log().contains(TOKEN) && !proxy.log().contains(&moto.user.1));
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
}
