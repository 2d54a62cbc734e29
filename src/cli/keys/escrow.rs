//! `pgveil keys export`, `import`: the whole keyring for a safe, sealed to those who may open it, and back.
//!
//! Guarantees: what is exported leaves sealed, and opens without this machine, its master key or its token; an import makes a keyring
//! where there is none and replaces none; the log is told before anything leaves. Deliberately absent: opening what was sealed (`age -d` does, where the identity is).

use super::{cannot_write, ensure_master_key, first_master_key, leave_word, unusable};
use crate::audit::pending::Deed;
use crate::cli::{CliError, ConfigDir};
use crate::crypto::age::{self, Recipient};
use crate::crypto::keyring::Keyring;
use crate::crypto::provider::{SystemRandom, file};
use clap::Args;
use std::io::{Read, Write};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Export all keys for escrow, sealed to recipients in the age format
///
/// Data keys with their versions and the ids of domains, with a master key of their own: it opens sealed cells without this machine,
/// its master key or its token. Whoever holds a recipient's identity restores it: age -d -i IDENTITY FILE | pgveil keys import.
/// Export again after keys rotate, and after new domains have got their ids.
#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    config: ConfigDir,
    /// Who may open it: age1…, as age-keygen prints it. May be given more than once
    #[arg(long, value_name = "RECIPIENT", required = true, value_parser = recipient)]
    to: Vec<Recipient>,
    /// The file that is made, mode 0600. Default: standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Make the keyring of an export, which standard input brings opened
///
/// It is wrapped by the master key of [keys], which is made where there is none. A keyring that is there is not replaced.
#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    config: ConfigDir,
}

fn recipient(text: &str) -> Result<Recipient, String> {
    Recipient::parse(text).ok_or_else(|| {
        "a recipient of age is age1 and 58 letters and digits, as age-keygen prints it".to_owned()
    })
}

impl Export {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        if let Some(path) = self.out.as_ref().filter(|path| path.exists()) {
            return Err(CliError::new(format!("{} is there already", path.display()))
                .hint("Name another file: nothing is written over."));
        }
        let keyring = config.keys.keyring().map_err(unusable)?;
        let plain = keyring.export(&mut SystemRandom);
        let sealed = age::seal(plain.as_bytes(), &self.to, &mut SystemRandom).map_err(|error| {
            CliError::new(error.to_string()).hint("Give a recipient whose identity someone holds.")
        })?;
        let to: Vec<String> = self.to.iter().map(ToString::to_string).collect();
        leave_word(&config, |at| Deed::Export { at, to: to.join(", ") })?;
        match &self.out {
            Some(path) => file::create_private(path, sealed.as_bytes()).map_err(cannot_write)?,
            None => std::io::stdout()
                .write_all(sealed.as_bytes())
                .map_err(|error| CliError::new(format!("cannot write to standard output: {error}")))?,
        }
        for recipient in &self.to {
            eprintln!("sealed all keys to {recipient}");
        }
        Ok(())
    }
}

impl Import {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let path = &config.keys.path;
        let there = || {
            CliError::new(format!("{} is there already", path.display())).hint(
                "Move it away first, if the exported one is to take its place: nothing is written over.",
            )
        };
        if path.exists() {
            return Err(there());
        }
        // Room enough that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(1 << 20));
        std::io::stdin().read_to_string(&mut text).map_err(|error| {
            CliError::new(format!("cannot read standard input: {error}"))
                .hint("Pipe the opened export into it: age -d -i IDENTITY FILE | pgveil keys import.")
        })?;
        let mut keyring = Keyring::import(&text).map_err(|error| {
            CliError::new(format!("standard input: {error}"))
                .hint("Pipe the opened export into it: age -d -i IDENTITY FILE | pgveil keys import.")
        })?;
        let _lock = file::lock(path).map_err(cannot_write)?;
        if path.exists() {
            return Err(there());
        }
        if let Some(line) = ensure_master_key(&config.keys)? {
            println!("{line}");
        }
        let master = first_master_key(&config.keys, &mut keyring, &mut |line| println!("{line}"))?;
        file::create(path, &keyring, &master).map_err(cannot_write)?;
        println!(
            "made the keyring {} with {} versions of keys",
            path.display(),
            keyring.key_versions().len()
        );
        Ok(())
    }
}
