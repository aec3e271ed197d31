//! HTTP(S) requests: a file of a benchmark, a question to a judge.

use std::io::Read;
use std::time::Duration;

use crate::error::Error;

/// Longest answer that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

fn agent(timeout: Duration) -> ureq::Agent {
    ureq::AgentBuilder::new().timeout_connect(timeout.min(Duration::from_secs(30))).timeout(timeout).build()
}

/// The content behind a URL.
///
/// # Errors
/// A server that does not answer, or with another status than success.
pub fn get(url: &str) -> Result<Vec<u8>, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::Unusable { what: format!("cannot fetch {url}: {e}") };
    let response = agent(Duration::from_secs(600)).get(url).call().map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    response.into_reader().take(MAX_BYTES).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    Ok(bytes)
}
