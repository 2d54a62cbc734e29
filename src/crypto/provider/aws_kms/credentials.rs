//! Where AWS credentials come from: the places where AWS's own programs look, in their order.
//!
//! Environment; the token of a web identity (Kubernetes); a profile of AWS's files with keys, a role that is assumed, single sign-on or
//! a program that prints credentials; a container's (ECS, EKS); the instance's (IMDSv2). Where `keys.aws_kms.profile` names a profile,
//! only that. The formats are reqsign's; files, programs and HTTP are ours. Guarantees: a place that is set up and fails stops
//! the search, so that nobody becomes someone else unawares; they are asked for anew with each call, so that none is stale; no error
//! holds one. Deliberately absent: second factors for roles, and asking anyone anything.

use super::super::ProviderError;
use super::super::http::{Client, InClear};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use ini::Ini;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential,
    ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    ProfileCredentialProvider, RequestSigner, SSOCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, ProvideCredential,
    ProvideCredentialDyn, Signer,
};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Who we are to AWS where nobody named the session.
const SESSION: &str = "pgveil";

/// Roles that are assumed to assume a role.
const ROLES_MAX: usize = 4;

type Source = Box<dyn ProvideCredentialDyn<Credential = Credential>>;

/// What the search depends on.
pub(super) struct Credentials<'c> {
    pub(super) region: &'c str,
    pub(super) profile: Option<&'c str>,
    pub(super) client: &'c Client,
}

impl Credentials<'_> {
    /// # Errors
    /// None were found, or the place that has them fails.
    pub(super) async fn find(&self) -> Result<Credential, ProviderError> {
        let context = self.context();
        let mut instance = String::new();
        for (place, source) in self.sources(&context)? {
            match source.provide_credential_dyn(&context).await {
                Ok(Some(credential)) => return Ok(credential),
                Ok(None) => {}
                // Nobody set it up, and most often this host is none of AWS's.
                Err(error) if place == INSTANCE => instance = format!(" ({error})"),
                Err(error) => return Err(failed(place, &error)),
            }
        }
        let looked = match self.profile {
            Some(profile) => format!("profile \"{profile}\" has none"),
            None => format!(
                "neither the environment, profile \"{}\", a web identity, a container nor the instance{instance} has any",
                profile_of(None)
            ),
        };
        Err(ProviderError::new(
            format!("no AWS credentials were found: {looked}"),
            "Give the proxy's process a role, or name a profile by keys.aws_kms.profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        ))
    }

    fn context(&self) -> Context {
        let http = Sender(self.client.clone().speaking_in_clear_to(InClear::Metadata));
        Context::new()
            .with_file_read(Files)
            .with_http_send(http)
            .with_env(Variables)
            .with_command_execute(Programs)
    }

    fn sources(&self, context: &Context) -> Result<Vec<(&'static str, Source)>, ProviderError> {
        let mut sources: Vec<(&'static str, Source)> = Vec::new();
        if self.profile.is_none() {
            sources.push(("the environment", Box::new(EnvCredentialProvider::new())));
            sources.push(("the web identity", Box::new(self.web_identity())));
        }
        let profile = profile_of(self.profile);
        if let Some(role) = self.role(context, &profile, ROLES_MAX)? {
            sources.push(("the profile's role", role));
        }
        let one = ProfileCredentialProvider::new().with_profile(profile.clone());
        sources.push(("the profile", Box::new(one)));
        let one = SSOCredentialProvider::new().with_profile(profile.clone());
        sources.push(("single sign-on", Box::new(one)));
        sources.push((PROCESS, Box::new(ProcessCredentialProvider::new().with_profile(profile))));
        if self.profile.is_none() {
            sources.push(("the container", Box::new(ECSCredentialProvider::new())));
            sources.push((INSTANCE, Box::new(IMDSv2CredentialProvider::new())));
        }
        Ok(sources)
    }

    fn web_identity(&self) -> AssumeRoleWithWebIdentityCredentialProvider {
        AssumeRoleWithWebIdentityCredentialProvider::new()
            .with_region(self.region.to_owned())
            .with_regional_sts_endpoint()
            .with_role_session_name(session())
    }

    /// The role that a profile has to be assumed; `None` where it has none.
    fn role(&self, context: &Context, profile: &str, left: usize) -> Result<Option<Source>, ProviderError> {
        let Some(role) = setting(profile, "role_arn") else { return Ok(None) };
        let wrong = |what: &str| {
            let message = format!("profile \"{profile}\" of AWS's files {what}");
            ProviderError::new(message, "Correct it, or name another one by keys.aws_kms.profile.")
        };
        if left == 0 {
            return Err(wrong("assumes too many roles"));
        }
        if setting(profile, "mfa_serial").is_some() {
            return Err(wrong("needs a second factor, which a proxy cannot give"));
        }
        if let Some(file) = setting(profile, "web_identity_token_file") {
            let identity =
                self.web_identity().with_role_arn(role).with_web_identity_token_file(PathBuf::from(file));
            return Ok(Some(Box::new(identity)));
        }
        let base: Source =
            match (setting(profile, "source_profile"), setting(profile, "credential_source").as_deref()) {
                (Some(source), None) if source != profile => match self.role(context, &source, left - 1)? {
                    Some(role) => role,
                    None => Box::new(ProfileCredentialProvider::new().with_profile(source)),
                },
                (Some(source), None) => Box::new(ProfileCredentialProvider::new().with_profile(source)),
                (None, Some("Environment")) => Box::new(EnvCredentialProvider::new()),
                (None, Some("EcsContainer")) => Box::new(ECSCredentialProvider::new()),
                (None, Some("Ec2InstanceMetadata")) => Box::new(IMDSv2CredentialProvider::new()),
                _ => return Err(wrong("names a role_arn, and not one source_profile or credential_source")),
            };
        let signer = Signer::new(context.clone(), Boxed(base), RequestSigner::new("sts", self.region));
        let mut assumed = AssumeRoleCredentialProvider::new(role, signer)
            .with_region(self.region.to_owned())
            .with_regional_sts_endpoint()
            .with_role_session_name(setting(profile, "role_session_name").unwrap_or_else(session));
        if let Some(id) = setting(profile, "external_id") {
            assumed = assumed.with_external_id(id);
        }
        Ok(Some(Box::new(assumed)))
    }
}

const PROCESS: &str = "the credential process";
const INSTANCE: &str = "the instance";

/// What reqsign says names files, roles and AWS's own errors; of a program's output it may quote what it could not read.
fn failed(place: &str, error: &Error) -> ProviderError {
    let cause =
        if place == PROCESS { "it failed, or prints no credentials".to_owned() } else { error.to_string() };
    let hint = "Correct or renew them (aws sts get-caller-identity shows whose they are).";
    let made = ProviderError::new(format!("no AWS credentials from {place}: {cause}"), hint);
    if error.is_retryable() { made.passing() } else { made }
}

fn session() -> String {
    variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn profile_of(named: Option<&str>) -> String {
    named.map(str::to_owned).or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
}

/// The region that the environment or the profile names.
pub(super) fn region(profile: Option<&str>) -> Option<String> {
    let named = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    named.or_else(|| setting(&profile_of(profile), "region"))
}

/// A setting of a profile in AWS's files.
fn setting(profile: &str, name: &str) -> Option<String> {
    let home = || std::env::home_dir().unwrap_or_default().join(".aws");
    let file = |named: &str, usual: &str| variable(named).map_or_else(|| home().join(usual), PathBuf::from);
    let section = if profile == "default" { "default".to_owned() } else { format!("profile {profile}") };
    let places = [
        (file("AWS_CONFIG_FILE", "config"), section.as_str()),
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile),
    ];
    places.iter().find_map(|(path, section)| {
        let settings = Ini::load_from_file(path).ok()?;
        settings.get_from(Some(*section), name).map(str::to_owned)
    })
}

/// A source that is one of several kinds.
struct Boxed(Source);

impl fmt::Debug for Boxed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Boxed")
    }
}

impl ProvideCredential for Boxed {
    type Credential = Credential;
    async fn provide_credential(&self, context: &Context) -> reqsign_core::Result<Option<Credential>> {
        self.0.provide_credential_dyn(context).await
    }
}

/// An empty variable is one that is not set, as to AWS's own programs.
#[derive(Debug)]
struct Variables;

impl Env for Variables {
    fn var(&self, name: &str) -> Option<String> {
        variable(name)
    }
    fn vars(&self) -> HashMap<String, String> {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let variables = variables.filter_map(|(name, value)| Some((name, value.into_string().ok()?)));
        variables.filter(|(_, value)| !value.is_empty()).collect()
    }
    fn home_dir(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        std::fs::read(path).map_err(|error| Error::config_invalid(format!("cannot read {path}: {error}")))
    }
}

#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await;
        let output =
            output.map_err(|error| Error::config_invalid(format!("cannot run {program}: {error}")))?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

struct Sender(Client);

impl fmt::Debug for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sender")
    }
}

impl HttpSend for Sender {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        redirect_sts(&mut parts)?;
        let request = Request::from_parts(parts, Zeroizing::new(Vec::from(body)));
        let answer = self.0.send(request).await;
        let answer = answer.map_err(|error| Error::unexpected(error.0).set_retryable(true))?;
        let mut response = Response::new(Bytes::from_owner(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

/// `AWS_ENDPOINT_URL_STS`, as AWS's own programs know it. The host that was signed is the one that is named.
fn redirect_sts(parts: &mut hyper::http::request::Parts) -> reqsign_core::Result<()> {
    let host = parts.uri.host().unwrap_or_default().to_owned();
    let Some(other) = variable("AWS_ENDPOINT_URL_STS").or_else(|| variable("AWS_ENDPOINT_URL")) else {
        return Ok(());
    };
    if !host.starts_with("sts.") {
        return Ok(());
    }
    let wrong = |why: &str| Error::config_invalid(format!("AWS_ENDPOINT_URL_STS cannot be used: {why}"));
    let base = super::super::http::base(&other).map_err(wrong)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let moved = format!("{}{path}", base.to_string().trim_end_matches('/'));
    parts.uri = moved.parse::<Uri>().map_err(|_| wrong("it is not a URL"))?;
    let named = HeaderValue::from_str(&host).map_err(|_| wrong("it is not a URL"))?;
    parts.headers.entry(HOST).or_insert(named);
    Ok(())
}
