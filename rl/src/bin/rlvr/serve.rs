//! `rlvr serve`: a policy behind an endpoint.

use crate::args::ServeArgs;
use crate::input::bad;
use crate::output::say;
use crate::{policy, signals};
use anyhow::{Context, Result};
use rlvr::serve::{self, Model, Options};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

pub fn run(args: &ServeArgs) -> Result<()> {
    let api_key = args.api_key_env.as_deref().map(key).transpose()?;
    // Before minutes of loading.
    let listener = TcpListener::bind(args.listen)
        .map_err(|e| bad(format!("--listen {}: cannot be listened on: {e}", args.listen)))?;
    let (spec, folder) = (&args.policy.policy, Path::new(&args.policy.policy));
    let name = args.name.clone().or_else(|| Some(folder.file_name()?.to_string_lossy().into_owned()));
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "policy".to_owned());
    let mut names = BTreeSet::from([name.as_str()]);
    if let Some((twice, _)) = args.adapters.iter().find(|(name, _)| !names.insert(name)) {
        return Err(bad(format!("--adapter: the name {twice} is taken twice")));
    }
    let base = Model::new(&name, spec, policy::open(&args.policy, false)?);
    let adapters = args.adapters.iter().map(|(name, folder)| base.with_adapter(name, folder));
    let adapters = adapters.collect::<Result<Vec<_>, _>>()?;
    let models: Vec<Model> = std::iter::once(base).chain(adapters).collect();
    let options = Options {
        api_key,
        max_queue: args.max_queue,
        max_tokens: args.max_tokens,
        max_batch_rows: args.max_batch_rows,
        max_batch_tokens: args.max_batch_tokens,
    };
    let stop = signals::stop_on_signal("the requests at work")?;
    let address = listener.local_addr().context("listening")?;
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    say!("serving {} on http://{address}/v1", names.join(", "));
    serve::serve(&models, &listener, &options, &stop)?;
    say!("done");
    Ok(())
}

/// The key in an environment variable.
fn key(variable: &str) -> Result<String> {
    let key =
        std::env::var(variable).map_err(|_| bad(format!("--api-key-env: {variable} is not set to text")))?;
    match key.trim() {
        "" => Err(bad(format!("--api-key-env: {variable} is empty"))),
        key => Ok(key.to_owned()),
    }
}
