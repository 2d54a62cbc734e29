//! The signing key's files.
//!
//! Guarantees: the signing key is never read from a file that others may read, and never replaced once it exists.
//! A key that is to follow lies beside it until the log has gone over to it; then it takes its place, and the public key stays
//! under the name of its id. Deliberately absent: when to change.

use super::checkpoint::KeyId;
use super::{Fault, files};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// File names in the log's folder.
pub const SIGNING_KEY_FILE: &str = "audit.key";
pub const PUBLIC_KEY_FILE: &str = "audit.pub";

/// What [`ensure_keys`] found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    pub signing_key: PathBuf,
    pub public_key: PathBuf,
    /// The signing key did not exist and was made.
    pub created: bool,
}

/// Makes what is missing of `folder` (mode 0700), its signing key (0600) and public key (0644). Changes nothing that
/// exists, so it is safe to run again.
pub fn ensure_keys(folder: &Path) -> Result<KeyFiles, Fault> {
    ensure_folder(folder)?;
    let files = KeyFiles {
        signing_key: folder.join(SIGNING_KEY_FILE),
        public_key: folder.join(PUBLIC_KEY_FILE),
        created: !folder.join(SIGNING_KEY_FILE).exists(),
    };
    if files.created {
        write_signing_key(&files.signing_key, &generate()?)?;
    }
    if !files.public_key.exists() {
        write_public_key(&files.public_key, &signing_key(folder)?.verifying_key())?;
    }
    Ok(files)
}

/// The signing key in `folder`; refused when others than its owner may touch the file.
pub fn signing_key(folder: &Path) -> Result<SigningKey, Fault> {
    read_signing_key(&folder.join(SIGNING_KEY_FILE))
}

fn read_signing_key(path: &Path) -> Result<SigningKey, Fault> {
    let mut file = File::open(path).map_err(|error| {
        let fault = Fault::new(format!("could not read {}: {error}", path.display()));
        match error.kind() {
            ErrorKind::NotFound => fault.hint("`pgveil init` makes the audit signing key."),
            _ => fault,
        }
    })?;
    let cannot = |error| Fault::new(format!("could not read {}: {error}", path.display()));
    let mode = file.metadata().map_err(cannot)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("others may read the signing key {} (mode {mode:04o})", path.display());
        return Err(Fault::new(message).hint(format!("Run `chmod 600 {}`.", path.display())));
    }
    let mut pem = Zeroizing::new(String::new());
    file.read_to_string(&mut pem).map_err(cannot)?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| {
        Fault::new(format!("{} is not an Ed25519 signing key in PKCS#8 PEM", path.display()))
            .hint("A log keeps its key for life. Restore the file from a backup, or begin a new log in another folder.")
    })
}

/// The key that is to sign next, while it waits in the folder.
const NEXT_SIGNING_KEY_FILE: &str = "audit.key.next";
const NEXT_PUBLIC_KEY_FILE: &str = "audit.pub.next";

/// Makes the key that is to sign next; the log goes over to it when it is opened or told to
/// ([`super::writer::Log::change_key`]). One that waits already stays.
pub fn prepare_next(folder: &Path) -> Result<VerifyingKey, Fault> {
    if let Some(key) = next_key(folder)? {
        return Ok(key.verifying_key());
    }
    let key = generate()?;
    let _ = fs::remove_file(folder.join(NEXT_PUBLIC_KEY_FILE));
    write_public_key(&folder.join(NEXT_PUBLIC_KEY_FILE), &key.verifying_key())?;
    // Last: where it is, all is.
    write_signing_key(&folder.join(NEXT_SIGNING_KEY_FILE), &key)?;
    Ok(key.verifying_key())
}

/// What the public key with this id is called when it signs no more.
fn former_key_file(id: &KeyId) -> String {
    format!("audit-{}.pub", faster_hex::hex_string(&id.0))
}

/// The public key with this id in a log's folder: the one that signs, or one that did.
pub fn public_key_of(folder: &Path, id: &KeyId) -> Result<VerifyingKey, Fault> {
    let current = public_key(&folder.join(PUBLIC_KEY_FILE))?;
    if KeyId::of(&current) == *id {
        return Ok(current);
    }
    let former = folder.join(former_key_file(id));
    // Without it, what the given key does not fit is said by the verifier.
    if former.exists() { public_key(&former) } else { Ok(current) }
}

/// The key that waits in the folder.
pub(super) fn next_key(folder: &Path) -> Result<Option<SigningKey>, Fault> {
    let path = folder.join(NEXT_SIGNING_KEY_FILE);
    if !path.exists() {
        return Ok(None);
    }
    read_signing_key(&path).map(Some)
}

/// Puts the waiting key in the place of the one that signed so far, whose secret half is gone with that.
pub(super) fn adopt_next(folder: &Path) -> Result<(), Fault> {
    let cannot =
        |error| Fault::new(format!("could not exchange the signing keys in {}: {error}", folder.display()));
    let rename = |from: &str, to: &str| fs::rename(folder.join(from), folder.join(to)).map_err(cannot);
    if folder.join(NEXT_PUBLIC_KEY_FILE).exists() {
        // After a crash between the two it has its other name already.
        if folder.join(PUBLIC_KEY_FILE).exists() {
            let old = public_key(&folder.join(PUBLIC_KEY_FILE))?;
            rename(PUBLIC_KEY_FILE, &former_key_file(&KeyId::of(&old)))?;
        }
        rename(NEXT_PUBLIC_KEY_FILE, PUBLIC_KEY_FILE)?;
    }
    rename(NEXT_SIGNING_KEY_FILE, SIGNING_KEY_FILE)?;
    files::sync_folder(&folder.join(SIGNING_KEY_FILE)).map_err(cannot)
}

/// The public key in a PEM file.
pub fn public_key(path: &Path) -> Result<VerifyingKey, Fault> {
    let pem = fs::read_to_string(path)
        .map_err(|error| Fault::new(format!("could not read {}: {error}", path.display())))?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|_| {
        Fault::new(format!("{} is not an Ed25519 public key in PEM", path.display()))
            .hint(format!("It is the file {PUBLIC_KEY_FILE} that `pgveil init` wrote."))
    })
}

/// Makes the folder with mode 0700 unless it exists; an existing one must not be open to others.
pub(super) fn ensure_folder(folder: &Path) -> Result<(), Fault> {
    let cannot = |error| Fault::new(format!("could not make the audit folder {}: {error}", folder.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let metadata = fs::metadata(folder).map_err(cannot)?;
    if metadata.mode() & 0o022 != 0 {
        let message = format!("others may write to the audit folder {}", folder.display());
        return Err(Fault::new(message).hint(format!("Run `chmod 700 {}`.", folder.display())));
    }
    Ok(())
}

/// [`files::create`], and which file it was.
pub(super) fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), Fault> {
    files::create(path, mode, content)
        .map_err(|error| Fault::new(format!("could not write {}: {error}", path.display())))
}

/// A new signing key.
fn generate() -> Result<SigningKey, Fault> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut())
        .map_err(|error| Fault::new(format!("could not get random bytes for a key: {error}")))?;
    Ok(SigningKey::from_bytes(&secret))
}

fn write_signing_key(path: &Path, key: &SigningKey) -> Result<(), Fault> {
    let pem = key.to_pkcs8_pem(LineEnding::LF);
    let pem = pem.map_err(|error| Fault::new(format!("could not encode a signing key: {error}")))?;
    create(path, 0o600, pem.as_bytes())
}

fn write_public_key(path: &Path, key: &VerifyingKey) -> Result<(), Fault> {
    let pem = key.to_public_key_pem(LineEnding::LF);
    let pem = pem.map_err(|error| Fault::new(format!("could not encode a public key: {error}")))?;
    create(path, 0o644, pem.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_fit_each_other() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("audit");
        let files = ensure_keys(&folder).unwrap();
        assert!(files.created);
        assert_eq!((mode(&folder), mode(&files.signing_key), mode(&files.public_key)), (0o700, 0o600, 0o644));
        let key = signing_key(&folder).unwrap();
        assert_eq!(public_key(&files.public_key).unwrap(), key.verifying_key());
        fs::remove_file(&files.public_key).unwrap();
        assert!(!ensure_keys(&folder).unwrap().created);
        assert_eq!(public_key(&files.public_key).unwrap(), key.verifying_key());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn a_signing_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = ensure_keys(folder.path()).unwrap();
        fs::set_permissions(&files.signing_key, fs::Permissions::from_mode(0o640)).unwrap();
        let fault = signing_key(folder.path()).unwrap_err();
        assert!(fault.message.contains("mode 0640"), "{fault}");
        assert!(fault.hint.unwrap().contains("chmod 600"));
    }

    #[test]
    fn nonsense_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let files = ensure_keys(folder.path()).unwrap();
        let fault = public_key(&files.signing_key).unwrap_err();
        assert!(fault.message.ends_with("is not an Ed25519 public key in PEM"), "{fault}");
        assert!(signing_key(&folder.path().join("none")).unwrap_err().hint.unwrap().contains("pgveil init"));
    }
}
