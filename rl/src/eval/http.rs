//! The file of a benchmark behind a URL.

use rlvr_policies::http::{Client, Limits, Request};

use crate::error::Error;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The content behind a URL.
///
/// # Errors
/// A server that does not answer, or with another status than success; content that breaks off or is longer than 1 GiB.
pub fn get(url: &str) -> Result<Vec<u8>, Error> {
    // The default is for listings; a file of this length may take its time.
    let limits = Limits { whole: std::time::Duration::from_secs(3600), ..Limits::default() };
    let client = Client::new(limits);
    let fetched =
        client.retry(|| client.follow(&Request::get(url), |_| false)?.expect(&[200])?.read(MAX_BYTES));
    fetched.map_err(|e| Error::Unusable { what: format!("cannot fetch {e}") })
}
