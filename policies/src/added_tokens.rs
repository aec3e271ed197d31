//! Tokens that a folder names outside of `tokenizer.json`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::PolicyError;
use crate::tokenizer::Tokenizer;

/// Adds the tokens of `added_tokens_decoder` in the tokenizer's config and of `added_tokens.json`, and the special tokens
/// that the config names, as transformers does; whether the tokenizer changed. `rows` is how many ids the model knows.
///
/// # Errors
/// An id that is none, or that two tokens of a file have; a token whose id is neither that of `tokenizer.json` nor the next
/// free one.
pub(crate) fn add_tokens(
    tokenizer: &mut Tokenizer,
    config: &Map<String, Value>,
    added: &Map<String, Value>,
    folder: &Path,
    rows: usize,
) -> Result<bool, PolicyError> {
    let declared = declared(config, added, folder)?;
    let known: BTreeMap<u32, u32> = declared
        .iter()
        .filter_map(|(id, (token, _))| Some((*id, tokenizer.token_to_id(&token.content)?)))
        .collect();
    let mut changed = tokenizer.add_tokens(declared.values().map(|(token, _)| token.clone()));
    let mut others = Vec::new();
    for (id, (token, file)) in &declared {
        let found = tokenizer.token_to_id(&token.content);
        if found != Some(*id) && known.contains_key(id) {
            others.push(format!("{:?} in {file}", token.content));
        } else if found != Some(*id) {
            let problem = format!(
                "token {:?} stands only in {file}, with id {id}, but the next free id is {}: save the tokenizer with \
                 transformers, which writes all tokens into tokenizer.json",
                token.content,
                found.map_or(String::new(), |id| id.to_string())
            );
            return Err(PolicyError::Tokenizer { path: folder.join(file), problem });
        }
    }
    if let Some(first) = others.first() {
        tracing::warn!(
            "{}: {} tokens have other ids than in tokenizer.json, which counts; the first is {first}",
            folder.display(),
            others.len()
        );
    }
    let mut free = tokenizer.vocab_size();
    let (mut named, mut without_row) = (Vec::new(), Vec::new());
    for token in named_tokens(config) {
        if tokenizer.token_to_id(&token.content).is_some() {
            named.push(token);
        } else if free < rows {
            free += 1;
            named.push(token);
        } else {
            without_row.push(token.content);
        }
    }
    changed |= tokenizer.add_tokens(named);
    if !without_row.is_empty() {
        tracing::warn!(
            "{}: the special tokens {without_row:?} are in no vocabulary and the model has no row for them",
            folder.display()
        );
    }
    Ok(changed)
}

/// Tokens that say their id, and the file that does.
type Declared = BTreeMap<u32, (AddedToken, &'static str)>;

/// The tokens of both files.
fn declared(
    config: &Map<String, Value>,
    added: &Map<String, Value>,
    folder: &Path,
) -> Result<Declared, PolicyError> {
    let mut declared = Declared::new();
    let specials: HashSet<String> = named_tokens(config).into_iter().map(|token| token.content).collect();
    let refused = |file: &str, problem: String| PolicyError::Tokenizer { path: folder.join(file), problem };
    for (token, id) in added {
        let file = "added_tokens.json";
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let number = number
            .ok_or_else(|| refused(file, format!("token {token:?} has {id} for an id, which is none")))?;
        let special = specials.contains(token);
        let new = AddedToken::from(token.as_str(), special).normalized(!special);
        if let Some((other, _)) = declared.insert(number, (new, file)) {
            return Err(refused(file, format!("tokens {:?} and {token:?} have one id, {id}", other.content)));
        }
    }
    for (id, token) in config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let file = "tokenizer_config.json";
        let (Ok(number), Some(new)) = (id.parse(), added_token(token)) else {
            let problem =
                format!("`added_tokens_decoder` has {token} for the id {id:?}, one of which is none");
            return Err(refused(file, problem));
        };
        let content = new.content.clone();
        match declared.insert(number, (new, file)) {
            Some((other, before)) if other.content != content => {
                if before == file {
                    let problem = format!("tokens {:?} and {content:?} have one id, {number}", other.content);
                    return Err(refused(file, problem));
                }
                tracing::warn!(
                    "{}: the id {number} is {:?} in {before} and {content:?} in {file}, which counts",
                    folder.display(),
                    other.content
                );
            }
            _ => {}
        }
    }
    Ok(declared)
}

/// The special tokens that a tokenizer's config names: `eos_token` and its like, and the lists of further ones.
fn named_tokens(config: &Map<String, Value>) -> Vec<AddedToken> {
    let one = config.iter().filter(|(key, _)| key.ends_with("_token")).map(|(_, value)| value);
    let lists = ["additional_special_tokens", "extra_special_tokens"];
    let several = lists.iter().filter_map(|key| config.get(*key)).flat_map(|value| match value {
        Value::Array(tokens) => tokens.iter().collect::<Vec<_>>(),
        Value::Object(tokens) => tokens.values().collect(),
        _ => Vec::new(),
    });
    let special = |mut token: AddedToken| {
        token.special = true;
        token
    };
    one.chain(several).filter_map(added_token).map(special).collect()
}

/// A token as a string or as an object with `content` and flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return (!content.is_empty()).then(|| AddedToken::from(content, true).normalized(false));
    }
    let content = value.get("content")?.as_str().filter(|c| !c.is_empty())?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    let token = AddedToken::from(content, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false));
    Some(token.normalized(flag("normalized").unwrap_or(!special)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn add(config: Value, added: Value, rows: usize) -> Result<(Tokenizer, bool), PolicyError> {
        let mut tokenizer = Tokenizer::characters("ab", &["<eos>"]).unwrap();
        let (config, added) = (config.as_object().unwrap().clone(), added.as_object().unwrap().clone());
        let changed = add_tokens(&mut tokenizer, &config, &added, Path::new("dir"), rows)?;
        Ok((tokenizer, changed))
    }

    #[test]
    fn tokens_of_other_files_get_their_ids() {
        let config = json!({
            "added_tokens_decoder": {"4": {"content": "<x>", "special": false}, "0": {"content": "<eos>", "special": true}},
            "pad_token": "<pad>", "eos_token": {"content": "<eos>"}, "additional_special_tokens": ["<y>"],
        });
        let (tokenizer, changed) = add(config, json!({"<think>": 3, "<eos>": 0}), 8).unwrap();
        assert!(changed);
        let ids = ["<eos>", "<think>", "<x>", "<pad>", "<y>"].map(|t| tokenizer.token_to_id(t).unwrap());
        assert_eq!(ids, [0, 3, 4, 5, 6]);
        assert_eq!(tokenizer.encode("a<think>b<x><pad>", false).unwrap(), [1, 3, 2, 4, 5]);
        assert_eq!(tokenizer.decode(&[1, 3, 5, 6, 2], true).unwrap(), "a<think>b");
        assert!(tokenizer.is_special(5) && tokenizer.is_special(6) && !tokenizer.is_special(3));
        assert_eq!(tokenizer.vocab_size(), 7);
        assert!(!add(json!({"eos_token": "<eos>"}), json!({"<eos>": 0}), 3).unwrap().1);
    }

    #[test]
    fn a_known_token_that_another_file_calls_special_is() {
        let (tokenizer, changed) = add(json!({"eos_token": "b"}), json!({}), 3).unwrap();
        assert!(changed && tokenizer.is_special(2));
        assert_eq!(tokenizer.decode(&[1, 2], true).unwrap(), "a");
    }

    #[test]
    fn ids_that_are_none_or_twice_are_refused() {
        for id in [json!("3"), json!(3.0), json!(-1), json!(null), json!(1_u64 << 32)] {
            let message = add(json!({}), json!({"<x>": id}), 8).unwrap_err().to_string();
            assert!(message.contains("added_tokens.json") && message.contains("\"<x>\""), "{message}");
        }
        let message = add(json!({}), json!({"<x>": 3, "<y>": 3}), 8).unwrap_err().to_string();
        assert!(message.contains("\"<x>\" and \"<y>\" have one id, 3"), "{message}");
        for decoder in [json!({"x": {"content": "<x>"}}), json!({"3": {}}), json!({"3": "<x>", "03": "<y>"})]
        {
            let message =
                add(json!({"added_tokens_decoder": decoder}), json!({}), 8).unwrap_err().to_string();
            assert!(message.contains("tokenizer_config.json"), "{message}");
        }
        let decoder = json!({"added_tokens_decoder": {"3": {"content": "<y>"}}});
        let (tokenizer, _) = add(decoder, json!({"<x>": 3}), 8).unwrap();
        assert_eq!((tokenizer.token_to_id("<y>"), tokenizer.token_to_id("<x>")), (Some(3), None));
    }

    #[test]
    fn ids_that_cannot_be_are_refused_and_tokens_without_a_row_left_out() {
        let message = add(json!({}), json!({"<far>": 9}), 20).unwrap_err().to_string();
        assert!(
            message.contains("dir/added_tokens.json") && message.contains("id 9") && message.contains("is 3"),
            "{message}"
        );
        let (tokenizer, _) = add(json!({"pad_token": "<pad>"}), json!({}), 3).unwrap();
        assert_eq!(tokenizer.token_to_id("<pad>"), None);
    }
}
