//! `hdai token`: a token of the development issuer.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Config, Development};
use crate::domain::{Role, scopes};
use crate::error::{Error, Result};
use crate::sign_in::development::{Key, MINUTES_MAX};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// App role of the token's person; more than one may be given
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// SMART scope, for example `user/Encounter.c`, that narrows the roles; more than one may be given
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Minutes that the token is good for
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=i64::from(MINUTES_MAX)))]
    minutes: u32,
}

pub(super) fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let known = || Role::ALL.map(Role::name).join(", ");
    let unknown = || Error::invalid(format!("--role must be one of {}", known()));
    let roles = args.roles.iter().map(|name| Role::parse(name).ok_or_else(unknown)).collect::<Result<Vec<Role>>>()?;
    if args.scopes.iter().any(|scope| !scopes::is_smart(scope) || scope.contains(' ')) {
        return Err(Error::invalid("--scope must be a SMART scope, for example user/Encounter.c: docs/identity.md lists them"));
    }
    say!("{}", issue(config, &config.folder, &roles, &args.scopes, args.minutes)?);
    Ok(ExitCode::SUCCESS)
}

/// A token of every role, as long as one may last, for a run in `folder`.
pub(super) fn of_every_role(config: &Config, folder: &Path) -> Result<String> {
    issue(config, folder, &Role::ALL, &[], MINUTES_MAX)
}

fn issue(config: &Config, folder: &Path, roles: &[Role], scopes: &[String], minutes: u32) -> Result<String> {
    match config.sign_in.development {
        Development::Allowed => {}
        Development::Refused(setting) => {
            return Err(Error::conflict(format!(
                "the development issuer signs nothing where {setting} is set, for it speaks of Azure: sign in to Microsoft Entra ID instead, \
                 or take that variable away"
            )));
        }
    }
    super::create_private(folder)?;
    Key::open(folder)?.issue(roles, scopes, super::now(), minutes)
}
