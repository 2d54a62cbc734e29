//! SoftHSM, a token in software that speaks PKCS #11: its own folder for each test, told to processes by `SOFTHSM2_CONF`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a user of the tokens here must say.
pub const PIN: &str = "7391-token-pin";

pub struct SoftHsm {
    dir: TempDir,
    module: PathBuf,
}

impl SoftHsm {
    /// Without tokens.
    pub fn new() -> SoftHsm {
        let dir = tempfile::Builder::new().prefix("pgveil-hsm-").tempdir().unwrap();
        fs::create_dir(dir.path().join("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", dir.path().display());
        fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        let named = std::env::var_os("PGVEIL_SOFTHSM").map(PathBuf::from);
        let usual = [
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/opt/homebrew/lib/softhsm/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        ];
        let module = named.into_iter().chain(usual.map(PathBuf::from)).find(|path| path.exists());
        let module = module.expect("SoftHSM: apt install softhsm2 opensc, or PGVEIL_SOFTHSM=libsofthsm2.so");
        SoftHsm { dir, module }
    }

    /// With a token and an AES key in it.
    pub fn with(token: &str, key: &str) -> SoftHsm {
        let hsm = SoftHsm::new();
        hsm.make_token(token);
        hsm.make_key(token, key);
        hsm
    }

    pub fn module(&self) -> &Path {
        &self.module
    }

    pub fn make_token(&self, label: &str) {
        let mut command = self.tool("softhsm2-util");
        command.args(["--init-token", "--free", "--so-pin", "12345678", "--label", label, "--pin", PIN]);
        succeed(command);
    }

    pub fn make_key(&self, token: &str, label: &str) {
        self.pkcs11_tool(token, &["--keygen", "--key-type", "aes:32", "--sensitive", "--label", label]);
    }

    /// OpenSC's tool, logged in.
    pub fn pkcs11_tool(&self, token: &str, arguments: &[&str]) {
        let mut command = self.tool("pkcs11-tool");
        command.arg("--module").arg(&self.module);
        command.args(["--token-label", token, "--login", "--pin", PIN]).args(arguments);
        succeed(command);
    }

    /// Takes all tokens away, until [`come_back`](Self::come_back).
    pub fn go_away(&self) {
        fs::rename(self.dir.path().join("tokens"), self.dir.path().join("away")).unwrap();
        fs::create_dir(self.dir.path().join("tokens")).unwrap();
    }

    pub fn come_back(&self) {
        fs::remove_dir(self.dir.path().join("tokens")).unwrap();
        fs::rename(self.dir.path().join("away"), self.dir.path().join("tokens")).unwrap();
    }

    /// What a process needs to find these tokens.
    pub fn environment(&self) -> (&'static str, PathBuf) {
        ("SOFTHSM2_CONF", self.dir.path().join("softhsm2.conf"))
    }

    /// OpenSC's module between a program and the token, which writes down every call; and its log.
    pub fn spy(&self) -> (PathBuf, Vec<(&'static str, PathBuf)>, PathBuf) {
        let log = self.dir.path().join("spy.log");
        let lib = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("pkcs11-spy.so"));
        let spy = lib.chain([PathBuf::from("/usr/lib64/pkcs11-spy.so")]).find(|path| path.exists());
        let environment =
            vec![self.environment(), ("PKCS11SPY", self.module.clone()), ("PKCS11SPY_OUTPUT", log.clone())];
        (spy.expect("pkcs11-spy.so of OpenSC: apt install opensc"), environment, log)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.envs([self.environment()]).stdin(Stdio::null());
        command
    }
}

fn succeed(mut command: Command) {
    let output = command.output().expect("SoftHSM and OpenSC: apt install softhsm2 opensc");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
