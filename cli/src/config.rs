//! The configuration file: contexts, each a cluster and an identity to meet it with.
//!
//! ```toml
//! current = "default"
//!
//! [context.default]
//! endpoints = ["10.0.0.1:7400", "10.0.0.2:7400"]
//! identity = "identity"                  # a folder; relative to this file
//! roots = "roots/coordinator.pem"
//! trust_domain = "cordon.internal"
//! ```

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::error::{CliError, Result};

/// Most endpoints of one context.
const ENDPOINTS_MAX: usize = 32;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context to use when none is named.
    #[serde(default)]
    current: Option<String>,
    #[serde(default)]
    context: BTreeMap<String, Context>,
}

/// A cluster and how to meet it. The paths are absolute, or relative to the working folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub endpoints: Vec<String>,
    pub identity: PathBuf,
    pub roots: PathBuf,
    pub trust_domain: String,
}

/// Reads the context to use: of `--config`, else `$CORDON_CONFIG`, else `~/.config/cordon/config.toml`.
///
/// # Errors
/// When the file is missing or not understood, with its place, or the context is not in it.
pub fn load(config: Option<&Path>, context: Option<&str>) -> Result<Context> {
    let path = match config {
        Some(path) => path.to_owned(),
        None => default_path()?,
    };
    let text = fs::read_to_string(&path).map_err(|error| {
        CliError::file("read the configuration", &path, &error).with_hint(
            "name one with --config or $CORDON_CONFIG; `cordon init` makes one in operators/NAME/config.toml",
        )
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let error = error.to_string();
        CliError::invalid(format!(
            "{} is not understood: {}",
            path.display(),
            error.trim_end()
        ))
        .with_hint("correct the line shown; docs/cli.md lists the keys")
    })?;
    pick(file, &path, context)
}

fn pick(file: File, path: &Path, wanted: Option<&str>) -> Result<Context> {
    let known: Vec<&str> = file.context.keys().map(String::as_str).collect();
    let name = match (wanted, &file.current, known.as_slice()) {
        (Some(name), _, _) => name,
        (None, Some(name), _) => name,
        (None, None, [only]) => only,
        (None, None, _) => {
            return Err(
                CliError::invalid(format!("{} has no current context", path.display()))
                    .with_hint(format!("choose one with --context: {}", known.join(", "))),
            );
        }
    };
    let mut context = file.context.get(name).cloned().ok_or_else(|| {
        CliError::invalid(format!("{} has no context `{name}`", path.display()))
            .with_hint(format!("it has: {}", known.join(", ")))
    })?;
    if !(1..=ENDPOINTS_MAX).contains(&context.endpoints.len()) {
        return Err(CliError::invalid(format!(
            "the context `{name}` in {} has {} endpoints; give 1 to {ENDPOINTS_MAX}",
            path.display(),
            context.endpoints.len()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    context.identity = folder.join(&context.identity);
    context.roots = folder.join(&context.roots);
    Ok(context)
}

fn default_path() -> Result<PathBuf> {
    // Set to nothing is not set.
    if let Some(path) = env::var_os("CORDON_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let base = match env::var_os("XDG_CONFIG_HOME").filter(|base| !base.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(env::var_os("HOME").ok_or_else(|| {
            CliError::invalid("there is no configuration: neither --config, $CORDON_CONFIG nor $HOME is set")
        })?)
        .join(".config"),
    };
    Ok(base.join("cordon/config.toml"))
}
