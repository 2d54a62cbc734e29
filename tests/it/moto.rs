//! moto, a server that answers as AWS does (KMS, STS, IAM, EC2's metadata): one process a test, and boto3 to prepare it with.
//!
//! It checks the signature of every request, and what its user's policy allows, as soon as the test's keys are made.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub const REGION: &str = "eu-central-1";

pub struct Moto {
    server: Child,
    pub address: String,
    /// The ARN of the KMS key with alias `alias/pgveil`.
    pub key: String,
    /// Access key and secret of a user who may encrypt and decrypt, and nothing else.
    pub user: (String, String),
    /// Of one who may do all.
    admin: (String, String),
}

/// A Python that has moto: what `PGVEIL_MOTO` names (scripts/test sets it), else the tests' own, else the machine's.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let named = std::env::var_os("PGVEIL_MOTO").map(PathBuf::from);
        let usual = || [crate::python::interpreter().to_owned(), PathBuf::from("python3")];
        let has_moto = |python: &PathBuf| {
            let imports = Command::new(python).args(["-c", "import moto.server, flask_cors, boto3"]).output();
            imports.is_ok_and(|output| output.status.success())
        };
        let found = named.into_iter().chain(usual()).find(has_moto);
        found.expect("moto: scripts/test installs it; or pip install moto flask flask-cors")
    })
}

const PREPARE: &str = r#"
import boto3, json, sys
session = dict(endpoint_url=sys.argv[1], region_name=sys.argv[2], aws_access_key_id="any", aws_secret_access_key="any")
kms, iam = boto3.client("kms", **session), boto3.client("iam", **session)
key = kms.create_key()["KeyMetadata"]["Arn"]
kms.create_alias(AliasName="alias/pgveil", TargetKeyId=key)
made = [key]
for name, actions in [("user", ["kms:Encrypt", "kms:Decrypt"]), ("admin", ["*"])]:
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
    access = iam.create_access_key(UserName=name)["AccessKey"]
    made += [access["AccessKeyId"], access["SecretAccessKey"]]
print(" ".join(made))
"#;

/// How many requests [`PREPARE`] sends.
const PREPARING: &str = "8";

impl Moto {
    pub fn start() -> Moto {
        let mut command = Command::new(python());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", PREPARING).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut server = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let running = |line: String| Some(line.split_once("Running on ")?.1.trim().to_owned());
        let address = lines.by_ref().map_while(Result::ok).find_map(running).expect("moto runs");
        // It writes a line for each request, and would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let nobody = (String::new(), String::new());
        let mut moto = Moto { server, address, key: String::new(), user: nobody.clone(), admin: nobody };
        let made = moto.python(PREPARE);
        let [key, user, secret, admin, admin_secret] = made.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{made}")
        };
        let own = |text: &str| text.to_owned();
        (moto.key, moto.user, moto.admin) =
            (own(key), (own(user), own(secret)), (own(admin), own(admin_secret)));
        moto
    }

    /// The administrator does this with `kms`, `iam` and `sts` of boto3, `key` being the id.
    pub fn administer(&self, script: &str) -> String {
        let (id, secret) = &self.admin;
        let prelude = format!(
            "import boto3, sys\nsession = dict(endpoint_url=sys.argv[1], region_name=sys.argv[2], aws_access_key_id='{id}', aws_secret_access_key='{secret}')\n\
             kms, iam, sts = [boto3.client(name, **session) for name in ('kms', 'iam', 'sts')]\nkey = '{}'.split('/')[-1]\n",
            self.key
        );
        self.python(&format!("{prelude}{script}"))
    }

    /// From now on it believes everyone.
    pub fn open(&self) {
        self.administer(
            "from urllib.request import Request, urlopen\n\
             urlopen(Request(sys.argv[1] + '/moto-api/reset-auth', data=b'inf', headers={'Content-Type': 'text/plain'}))",
        );
    }

    fn python(&self, script: &str) -> String {
        let output = Command::new(python()).args(["-c", script, &self.address, REGION]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a process needs to be the user who may encrypt and decrypt.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let (id, secret) = &self.user;
        let none = PathBuf::from("/nonexistent");
        vec![
            ("AWS_ACCESS_KEY_ID", PathBuf::from(id)),
            ("AWS_SECRET_ACCESS_KEY", PathBuf::from(secret)),
            ("AWS_CONFIG_FILE", none.clone()),
            ("AWS_SHARED_CREDENTIALS_FILE", none),
            ("AWS_EC2_METADATA_DISABLED", PathBuf::from("true")),
        ]
    }

    /// `STOP` and `CONT`: it takes connections and answers none, until it goes on.
    pub fn signal(&self, name: &str) {
        crate::proxy::signal(&self.server.id().to_string(), name);
    }

    pub fn go_away(&mut self) {
        // One that is gone already is away.
        let _ = self.server.kill();
        self.server.wait().unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.go_away();
    }
}
