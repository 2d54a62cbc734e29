//! `pgveil keys split`, `recover`: the master key in shares, and out of them.
//!
//! Guarantees: a master key that shares make is written only if it opens the keyring, and never over another file; shares are
//! printed by `split`, after the log was told, and nowhere else, least of all in an error. Deliberately absent: keeping shares.

use super::{cannot_write, leave_word, unusable};
use crate::audit::pending::Deed;
use crate::cli::{CliError, ConfigDir};
use crate::config::keys::MasterKeySource;
use crate::config::{Config, PROXY};
use crate::crypto::provider::{SystemRandom, file};
use crate::crypto::shares::{self, Quorum, Share, ShareError};
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Print the master key in shares, any K of N of which make it again
///
/// One line a share, on standard output: give each to another person, on paper or in their own safe. Nothing changes; the shares
/// hold until the master key is another one (keys rewrap). It is the way back when a token or the file with the master key is lost.
#[derive(Args)]
pub struct Split {
    #[command(flatten)]
    config: ConfigDir,
    /// How many of how many: 3/5 makes five shares, any three of which are enough
    #[arg(value_name = "K/N", value_parser = quorum)]
    shares: Quorum,
}

/// Make the master key again from its shares
///
/// Shares come from files, else are asked for one by one on the terminal, else are lines of standard input. The master key is
/// written (mode 0600) only if it opens the keyring, and never over a file that is there.
#[derive(Args)]
pub struct Recover {
    #[command(flatten)]
    config: ConfigDir,
    /// Files with shares, one a line
    #[arg(value_name = "FILE")]
    shares: Vec<PathBuf>,
    /// Where the master key is written. Default: [keys] master_key_file, or master.key in the folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Reads `3/5`.
pub(in crate::cli) fn quorum(text: &str) -> Result<Quorum, String> {
    Quorum::parse(text).ok_or_else(|| "write it like 3/5: at least two needed, of at most 255".to_owned())
}

impl Split {
    pub(super) fn run(self) -> Result<(), CliError> {
        print(&self.config.load_unprepared()?, self.shares)
    }
}

/// Prints the shares of the master key.
///
/// # Errors
/// There is no master key, or it does not open the keyring: shares of it would be worth nothing.
pub(in crate::cli) fn print(config: &Config, quorum: Quorum) -> Result<(), CliError> {
    config.keys.keyring().map_err(unusable)?;
    let master = config.keys.master_key().map_err(unusable)?;
    let shares = shares::split(&master, quorum, &mut SystemRandom);
    let set = shares.first().map(Share::set).unwrap_or_default();
    let to = format!("{} shares, any {} of them, set {set}", shares.len(), quorum.needed());
    leave_word(config, |at| Deed::Export { at, to })?;
    eprintln!(
        "{} shares of the master key, set {set}; any {} make it again (pgveil keys recover). Give each to another person:",
        shares.len(),
        quorum.needed()
    );
    for share in shares {
        println!("{}", share.text().as_str());
    }
    Ok(())
}

impl Recover {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let path = self.out.clone().unwrap_or_else(|| match &config.keys.master_key {
            MasterKeySource::File(path) => path.clone(),
            MasterKeySource::Text(_) | MasterKeySource::Kept(_) => config.dir.join("master.key"),
        });
        if path.exists() {
            return Err(CliError::new(format!("{} is there already", path.display()))
                .hint("Move it away, or name another file: --out FILE. Nothing is written over."));
        }
        let shares = self.given()?;
        let master = shares::combine(&shares).map_err(refused)?;
        file::load(&config.keys.path, &master).map_err(|error| {
            CliError::new(format!("the master key that these shares make does not open the keyring: {error}"))
                .hint("They may be of an older master key (keys rewrap makes another), or one was forged. Nothing was written.")
        })?;
        file::create_private(&path, master.text().as_bytes()).map_err(cannot_write)?;
        println!("wrote the master key {}: it opens {}", path.display(), config.keys.path.display());
        if !matches!(&config.keys.master_key, MasterKeySource::File(named) if *named == path) {
            println!(
                "name it in [keys] of {PROXY} (master_key_file); or take the keyring to the provider there: pgveil keys rewrap --old-master-key-file {}",
                path.display()
            );
        }
        Ok(())
    }

    fn given(&self) -> Result<Vec<Share>, CliError> {
        // Room enough that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(64 * 1024));
        if self.shares.is_empty() && std::io::stdin().is_terminal() {
            return asked();
        }
        let unreadable = |what: String, error: std::io::Error| {
            CliError::new(format!("cannot read {what}: {error}")).hint("Each line of it is a share.")
        };
        for path in &self.shares {
            let read = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
            read.map_err(|error| unreadable(path.display().to_string(), error))?;
            text.push('\n');
        }
        if self.shares.is_empty() {
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| unreadable("standard input".to_owned(), error))?;
        }
        let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
        lines.map(|(index, line)| Share::parse(line, index + 1).map_err(refused)).collect()
    }
}

/// Asks for as many as are needed, without echo.
fn asked() -> Result<Vec<Share>, CliError> {
    let mut shares: Vec<Share> = Vec::new();
    loop {
        let number = shares.len() + 1;
        match shares.first() {
            Some(first) if number > usize::from(first.needed()) => return Ok(shares),
            _ => {}
        }
        let typed = rpassword::prompt_password(format!("Share {number}: ")).map(Zeroizing::new);
        let typed = typed.map_err(|error| CliError::new(format!("no share could be asked for: {error}")))?;
        shares.push(Share::parse(&typed, number).map_err(refused)?);
    }
}

fn refused(error: ShareError) -> CliError {
    let hint = match &error {
        ShareError::TooFew { .. } => "Give the missing ones, too: one a line.",
        ShareError::OtherSet(..) => "Give shares of one set: each time keys split runs it makes another.",
        _ => "Give the line as keys split printed it. Nothing was written.",
    };
    CliError::new(error.to_string()).hint(hint)
}
