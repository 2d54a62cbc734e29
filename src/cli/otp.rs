//! `pgveil otp`: second factors. A secret for an authenticator app, kept sealed in users.toml.
//!
//! Guarantees: the secret is shown once, by the command that made it, and kept under a key of the keyring. Deliberately absent:
//! trying codes (the proxy does), and who needs one (policy.toml says).

use super::{CliError, ConfigDir, users};
use crate::auth::otp::{SECRET_BYTES, Totp};
use crate::config::USERS;
use crate::config::users::factor_names;
use crate::crypto::Random;
use crate::crypto::provider::SystemRandom;
use crate::server::settings::AuthSource;
use clap::{Args, Subcommand};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The second factor: one-time codes of an authenticator app
#[derive(Subcommand)]
pub enum Otp {
    Enroll(Enroll),
    Disable(Disable),
}

/// Give a user a second factor: prints a QR code for the authenticator app, and the same as an otpauth:// address
///
/// The secret is made here and shown this once; users.toml keeps it sealed under a key of the keyring. A running proxy learns of
/// it by SIGHUP. Then the user steps a session up with SET pgveil.otp = '123456', where a rule has second_factor = true.
#[derive(Args)]
pub struct Enroll {
    /// The user's name
    user: String,
    #[command(flatten)]
    config: ConfigDir,
    /// Make a new secret for one who has one: the old authenticator is of no use any more
    #[arg(long)]
    replace: bool,
    /// Print a JSON object: user, address
    #[arg(long)]
    json: bool,
}

/// Take a user's second factor away: no rule with second_factor = true gives anything then
#[derive(Args)]
pub struct Disable {
    /// The user's name
    user: String,
    #[command(flatten)]
    config: ConfigDir,
    /// Print a JSON object: user
    #[arg(long)]
    json: bool,
}

impl Otp {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Otp::Enroll(command) => command.run(),
            Otp::Disable(command) => command.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Enroll {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let user = self.user.as_str();
        let known = config.users.contains_key(user) || config.settings.log_ins.contains_key(user);
        if config.settings.auth == AuthSource::File && !known {
            return Err(CliError::new(format!("there is no user {user} in {USERS}"))
                .hint(format!("Run: pgveil users add {user}")));
        }
        let keyring = config.keys.keyring().map_err(|error| CliError::new(error.message).hint(error.hint))?;
        let secrets = keyring.secrets().map_err(|error| CliError::new(error.to_string()))?;
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom.fill(secret.as_mut());
        let totp = Totp::new(secret.as_ref()).ok_or_else(|| CliError::new("the secret cannot be used"))?;
        let address = totp.address(user);
        let drawn = QrCode::new(address.as_bytes())
            .map_err(|error| CliError::new(format!("the address makes no QR code: {error}")))?
            .render::<Dense1x2>()
            .build();
        let drawn = Zeroizing::new(drawn);
        let sealed = secrets.seal(factor_names(user), secret.as_ref(), &mut SystemRandom);
        let kept = users::change(&config.dir, |known| {
            let free = self.replace || !known.factors.contains_key(user);
            if free {
                known.factors.insert(user.to_owned(), sealed);
            }
            free
        })?;
        if !kept {
            return Err(CliError::new(format!("{user} has a second factor"))
                .hint("--replace makes a new one; the old authenticator is of no use then."));
        }
        if self.json {
            println!("{}", serde_json::json!({ "user": user, "address": address.as_str() }));
        } else {
            println!("{}\n{}", drawn.as_str(), address.as_str());
            eprintln!(
                "wrote {}; a running proxy learns of it by SIGHUP. Show the code to {user} alone: it is not shown again.",
                config.dir.join(USERS).display()
            );
        }
        Ok(())
    }
}

impl Disable {
    fn run(self) -> Result<(), CliError> {
        let dir = &self.config.dir;
        // Read first, so that nothing is written for a user who has none.
        if !users::read(dir)?.factors.contains_key(&self.user)
            || users::change(dir, |known| known.factors.remove(&self.user))?.is_none()
        {
            return Err(CliError::new(format!("{} has no second factor", self.user)));
        }
        if self.json {
            println!("{}", serde_json::json!({ "user": self.user }));
        } else {
            println!("{} has no second factor any more; a running proxy learns of it by SIGHUP", self.user);
        }
        Ok(())
    }
}
