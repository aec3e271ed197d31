//! What of a server's words may become a path.

/// Whether a string has the form `owner/name`.
pub fn is_repo_id(spec: &str) -> bool {
    let part = |s: &str| {
        s.len() <= 96
            && s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            // The cache's folders join owner and name by two hyphens.
            && !s.contains("..")
            && !s.contains("--")
    };
    spec.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// Whether a string can name a file in the cache's own folders: a commit, a branch, a blob.
pub(super) fn is_plain(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=~@,".contains(c))
        // Names of files that are not whole, and of locks.
        && !name.ends_with(".incomplete")
        && !name.ends_with(".lock")
}

/// Whether a string is a Git commit.
pub(super) fn is_commit(sha: &str) -> bool {
    matches!(sha.len(), 40 | 64) && sha.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A file name as part of an address.
pub(super) fn quoted(file: &str) -> String {
    let mut out = String::with_capacity(file.len());
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into())
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::is_inside;

    #[test]
    fn repository_ids() {
        for (spec, expected) in [
            ("owner/name", true),
            ("HuggingFaceTB/SmolLM2-135M-Instruct", true),
            ("o/n.v1_2", true),
            ("name", false),
            ("a/b/c", false),
            ("./a", false),
            ("../a", false),
            ("/a", false),
            ("a/..", false),
            ("a/b c", false),
            ("a--b/c", false),
            ("", false),
        ] {
            assert_eq!(is_repo_id(spec), expected, "{spec}");
        }
    }

    #[test]
    fn only_plain_names_and_paths_inside() {
        for name in ["d41d8cd98f00b204", "5f3c-1a2b", "abc-12", "0x8D+=", "main"] {
            assert!(is_plain(name), "{name}");
        }
        let long = "x".repeat(201);
        for name in
            ["", ".", "..", ".x", "a/b", "/a", "a\\b", "a\0", "a b", "ü", "a.incomplete", "a.lock", &long]
        {
            assert!(!is_plain(name), "{name:?}");
        }
        for file in ["config.json", "a/b/c.txt", "ü x.json", ".gitattributes", "a:b"] {
            assert!(is_inside(file), "{file}");
        }
        let (long, deep) = ("x".repeat(256), "x/".repeat(600) + "x");
        for file in [
            "", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", &long,
            &deep,
        ] {
            assert!(!is_inside(file), "{file:?}");
        }
        assert!(is_commit(&"0a".repeat(20)) && !is_commit("main") && !is_commit(&"0A".repeat(20)));
        assert_eq!(quoted("a b/ü#?%.json"), "a%20b/%C3%BC%23%3F%25.json");
    }
}
