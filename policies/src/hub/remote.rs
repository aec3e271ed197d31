//! What a server says about a repository: which files there are, and what is behind one of them.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::digest::ContentHash;
use super::names::{is_commit, is_plain, quoted};
use super::{RepoKind, Trouble};
use crate::http::{Answer, Client, Fault, HttpError, Request};

/// Longest listing of a repository, in bytes.
const LISTING_BYTES: u64 = 32 << 20;
/// Most files in it.
const LISTING_FILES: usize = 200_000;

/// A repository on a server.
pub(super) struct Remote<'a> {
    pub client: &'a Client,
    pub endpoint: &'a str,
    pub token: Option<&'a str>,
    pub kind: RepoKind,
    pub repo: &'a str,
}

/// A commit and its files.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    #[serde(rename = "sha")]
    pub commit: String,
    /// Its files; their names are whatever the server says.
    #[serde(deserialize_with = "bounded")]
    pub siblings: Vec<Sibling>,
}

/// A file of a listing.
#[derive(Debug, Deserialize)]
pub(super) struct Sibling {
    /// Path in the repository.
    #[serde(rename = "rfilename")]
    pub file: String,
    /// Bytes, if the server says so.
    #[serde(default)]
    pub size: Option<u64>,
}

/// A file before it is downloaded.
#[derive(Debug)]
pub(super) struct Described {
    /// The server's name for the content: plain, see [`is_plain`].
    pub etag: String,
    /// The hash that the name is.
    pub hash: Option<ContentHash>,
    /// Bytes, if the server says so.
    pub size: Option<u64>,
    /// What `If-Range` may ask for.
    pub validator: Option<String>,
    /// The commit that the file is of, if the server says so.
    pub commit: Option<String>,
}

impl Remote<'_> {
    /// The main branch.
    pub fn listing(&self) -> Result<Listing, Trouble> {
        // With sizes, so that files in the cache can be compared.
        let url =
            format!("{}/api/{}/{}/revision/main?blobs=true", self.endpoint, self.kind.plural(), self.repo);
        let request = Request { token: self.token, ..Request::get(&url) };
        let listing: Listing = self.client.retry(|| {
            let answer = self.client.follow(&request, |_| false)?.expect(&[200])?;
            let bad = answer.error(Fault::Final, "");
            serde_json::from_slice(&answer.read(LISTING_BYTES)?)
                .map_err(|e| HttpError { problem: format!("this is no listing of a repository: {e}"), ..bad })
        })?;
        if !is_commit(&listing.commit) {
            return Err(Trouble::said(format!("the server names the commit {:?}", short(&listing.commit))));
        }
        Ok(listing)
    }

    /// Address of a file.
    pub fn url(&self, revision: &str, file: &str) -> String {
        format!("{}/{}{}/resolve/{revision}/{}", self.endpoint, self.kind.prefix(), self.repo, quoted(file))
    }

    /// What is behind a file's name.
    pub fn describe(&self, revision: &str, file: &str) -> Result<Described, Trouble> {
        let url = self.url(revision, file);
        let request = Request { head: true, token: self.token, ..Request::get(&url) };
        let answer = self.client.retry(|| {
            // Large files lie on another server; the redirect to it already says what they are.
            let answer = self.client.follow(&request, |headers| headers.contains_key("x-linked-etag"))?;
            answer.expect(&[200, 301, 302, 303, 307, 308])
        })?;
        describe(&answer)
    }
}

fn describe(answer: &Answer) -> Result<Described, Trouble> {
    let moved = answer.status != 200;
    let linked = answer.header("x-linked-etag");
    let raw = linked.or(answer.header("etag")).unwrap_or_default().trim();
    let weak = raw.starts_with("W/");
    let etag = raw.trim_start_matches("W/").trim_matches('"');
    if etag.is_empty() {
        return Err(Trouble::Http(answer.error(Fault::Final, "it has no ETag, so it cannot be cached")));
    }
    if !is_plain(etag) {
        let problem = format!("its ETag {:?} cannot be the name of a file", short(etag));
        return Err(Trouble::Http(answer.error(Fault::Final, problem)));
    }
    let commit = answer.header("x-repo-commit").map(str::to_owned);
    if let Some(commit) = commit.as_ref().filter(|c| !is_commit(c)) {
        let problem = format!("its X-Repo-Commit {:?} is not a commit", short(commit));
        return Err(Trouble::Http(answer.error(Fault::Final, problem)));
    }
    let size = match answer.header("x-linked-size") {
        Some(size) => Some(size.trim().parse().map_err(|_| {
            let problem = format!("its X-Linked-Size {:?} is not a number", short(size));
            Trouble::Http(answer.error(Fault::Final, problem))
        })?),
        None => answer.length().filter(|_| !moved),
    };
    Ok(Described {
        hash: ContentHash::of_etag(etag),
        etag: etag.to_owned(),
        size,
        // The ETag of another server's copy is another one.
        validator: (!weak && !moved && linked.is_none() && raw.starts_with('"')).then(|| raw.to_owned()),
        commit,
    })
}

/// The beginning of a server's word, for a message.
pub(super) fn short(word: &str) -> String {
    word.chars().take(60).collect()
}

/// A list of at most `LISTING_FILES` files.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sibling>, D::Error> {
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Vec<Sibling>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = list.next_element()? {
                if files.len() == LISTING_FILES {
                    return Err(A::Error::custom(format!("it lists more than {LISTING_FILES} files")));
                }
                files.push(file);
            }
            Ok(files)
        }
    }
    deserializer.deserialize_seq(Files)
}
