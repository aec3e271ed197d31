//! Where a folder or a GGUF file keeps its chat templates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::chat_template::{ChatTemplate, MAX_SOURCE};
use crate::error::PolicyError;
use crate::file;

/// Template that is meant where several have names.
const DEFAULT: &str = "default";

/// Longest `chat_template.json` that is read, in bytes.
const MAX_FILE: u64 = 1 << 24;
/// Templates that are read of a folder of them.
pub(crate) const MAX_TEMPLATES: usize = 32;

/// Templates by name, and the file they are in.
pub(crate) struct TemplateFiles {
    named: BTreeMap<String, Vec<u8>>,
    path: PathBuf,
}

impl TemplateFiles {
    /// The templates of a folder: `chat_template.jinja`, else `chat_template` of the tokenizer's config, else of
    /// `chat_template.json`, else those in `additional_chat_templates`.
    ///
    /// # Errors
    /// An unreadable file, or a `chat_template.json` that is not JSON.
    pub(crate) fn of_folder(folder: &Path, config: &Map<String, Value>) -> Result<Self, PolicyError> {
        let jinja = folder.join("chat_template.jinja");
        // A link that leads nowhere or a pipe is no missing template.
        if fs::symlink_metadata(&jinja).is_ok() {
            let text = read(&jinja)?;
            return Ok(Self { named: [(DEFAULT.to_owned(), text)].into(), path: jinja });
        }
        let path = folder.join("tokenizer_config.json");
        let found = Self { named: named(config.get("chat_template"), &path)?, path };
        if !found.named.is_empty() {
            return Ok(found);
        }
        let json = folder.join("chat_template.json");
        if fs::symlink_metadata(&json).is_ok() {
            let text = file::read(&json, MAX_FILE)?;
            let value: Value = serde_json::from_slice(&text).map_err(PolicyError::json(&json))?;
            let named = named(Some(value.get("chat_template").unwrap_or(&value)), &json)?;
            return Ok(Self { named, path: json });
        }
        let additional = folder.join("additional_chat_templates");
        let mut named = BTreeMap::new();
        for entry in fs::read_dir(&additional).into_iter().flatten() {
            let path = entry.map_err(PolicyError::read(&additional))?.path();
            if path.extension().is_some_and(|e| e == "jinja") && named.len() < MAX_TEMPLATES {
                let name = path.file_stem().map_or(String::new(), |n| n.to_string_lossy().into_owned());
                named.insert(name, read(&path)?);
            }
        }
        Ok(Self { named, path: additional })
    }

    /// Templates that were found elsewhere.
    pub(crate) fn new(named: impl IntoIterator<Item = (String, String)>, path: &Path) -> Self {
        let named = named.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        Self { named, path: path.into() }
    }

    /// The template called `default`, or the only one. Where none of several is the default, or the text is not UTF-8, it
    /// is a template that fails when it is needed; none where there is none at all.
    pub(crate) fn choose(mut self, special_tokens: &BTreeMap<String, String>) -> Option<ChatTemplate> {
        let names: Vec<String> = self.named.keys().cloned().collect();
        let chosen = match self.named.remove(DEFAULT) {
            Some(text) => text,
            None if names.len() == 1 => {
                tracing::warn!(
                    "{}: its only chat template is called `{}` and is used",
                    self.path.display(),
                    names[0]
                );
                self.named.pop_first()?.1
            }
            None if names.is_empty() => return None,
            None => {
                let names = names.join("`, `");
                let problem = format!(
                    "there are the templates `{names}` and none is called `{DEFAULT}`: write the one that is meant to a \
                     file and name it as policy.chat_template"
                );
                return Some(ChatTemplate::unusable(problem, &self.path, special_tokens));
            }
        };
        Some(match String::from_utf8(chosen) {
            Ok(text) => ChatTemplate::new(&text, &self.path, special_tokens),
            Err(_) => ChatTemplate::unusable("it is not UTF-8".into(), &self.path, special_tokens),
        })
    }
}

/// The bytes of a template, no more than show that it is too long.
fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    file::begin(path, MAX_SOURCE as u64 + 1)
}

/// `chat_template` of a JSON file: a string, a list of `{name, template}`, or an object of names and templates.
///
/// # Errors
/// Anything else.
fn named(value: Option<&Value>, path: &Path) -> Result<BTreeMap<String, Vec<u8>>, PolicyError> {
    let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let found = match value {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(Value::String(default)) => Some([(DEFAULT.to_owned(), default.as_bytes().to_vec())].into()),
        Some(Value::Array(list)) => {
            let pair = |item: &Value| Some((item["name"].as_str()?.to_owned(), text(&item["template"])?));
            list.iter().map(pair).collect()
        }
        Some(Value::Object(map)) => {
            map.iter().map(|(name, template)| Some((name.clone(), text(template)?))).collect()
        }
        Some(_) => None,
    };
    found.ok_or_else(|| PolicyError::ConfigKey {
        path: path.into(),
        key: "chat_template".into(),
        problem: "is neither a text nor a list of `name` and `template`".into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn choose(folder: &Path, config: Value) -> Option<ChatTemplate> {
        let files = TemplateFiles::of_folder(folder, config.as_object().unwrap()).unwrap();
        files.choose(&BTreeMap::new())
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_no_missing_template() {
        for name in ["chat_template.jinja", "chat_template.json"] {
            let dir = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink("nowhere", dir.path().join(name)).unwrap();
            let message = TemplateFiles::of_folder(dir.path(), &Map::new()).err().unwrap().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn templates_are_found_in_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let source = |config: Value| choose(dir.path(), config).unwrap().source().to_owned();
        assert!(choose(dir.path(), json!({})).is_none());
        write("additional_chat_templates/rag.jinja", b"rag");
        assert_eq!(source(json!({})), "rag");
        write("chat_template.json", br#"{"chat_template": "json"}"#);
        assert_eq!(source(json!({})), "json");
        assert_eq!(source(json!({"chat_template": "config"})), "config");
        assert_eq!(source(json!({"chat_template": [{"name": "only", "template": "one"}]})), "one");
        assert_eq!(source(json!({"chat_template": {"tool_use": "a", "default": "b"}})), "b");
        write("chat_template.jinja", b"file");
        assert_eq!(source(json!({"chat_template": "config"})), "file");
    }

    #[test]
    fn what_cannot_be_chosen_fails_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let several =
            json!({"chat_template": [{"name": "a", "template": "1"}, {"name": "b", "template": "2"}]});
        let message =
            choose(dir.path(), several).unwrap().render::<Value>(&[], true).unwrap_err().to_string();
        assert!(message.contains("tokenizer_config.json") && message.contains("`a`, `b`"), "{message}");
        fs::write(dir.path().join("chat_template.jinja"), b"\xff").unwrap();
        let message = choose(dir.path(), json!({})).unwrap().check().unwrap_err().to_string();
        assert!(message.contains("chat_template.jinja") && message.contains("not UTF-8"), "{message}");
    }
}
