//! Which server is asked, with which token, and where what it gives is kept.

use std::path::PathBuf;

use crate::http::Limits;

/// Where repositories come from and where they are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Server, without a slash at the end.
    pub endpoint: String,
    /// Cache directory (`…/huggingface/hub`).
    pub cache: PathBuf,
    /// Access token for gated and private repositories.
    pub token: Option<String>,
    /// Use what the cache holds and nothing else.
    pub offline: bool,
    /// How long requests wait and how often they are tried.
    pub limits: Limits,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("limits", &self.limits)
            .finish()
    }
}

impl HubOptions {
    /// Settings from the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`. Without
    /// them: huggingface.co and `~/.cache/huggingface`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        let home = || {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        };
        let home = set("HF_HOME").map_or_else(home, PathBuf::from);
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = set("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: set("HF_TOKEN").or_else(|| {
                let token = std::fs::read_to_string(home.join("token")).ok()?.trim().to_owned();
                (!token.is_empty()).then_some(token)
            }),
            offline: matches!(offline.as_str(), "1" | "true" | "yes" | "on"),
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_come_from_the_environment() {
        let from = |pairs: &[(&str, &str)]| {
            HubOptions::from_variables(|name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        let options = from(&[("HF_HOME", "h"), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!(
            (options.endpoint.as_str(), options.cache.as_path()),
            ("http://mirror", Path::new("h/hub"))
        );
        assert!(options.offline && options.token.is_none());
        let options =
            from(&[("HF_HUB_CACHE", "c"), ("HF_TOKEN", "t"), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", "h")]);
        assert_eq!((options.cache.as_path(), options.token.as_deref()), (Path::new("c"), Some("t")));
        assert!(!options.offline && options.endpoint == "https://huggingface.co");
        assert_eq!(from(&[("XDG_CACHE_HOME", "x")]).cache, Path::new("x/huggingface/hub"));
    }
}
