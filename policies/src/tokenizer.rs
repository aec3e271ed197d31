//! Text to token ids and back.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;

use tokenizers::models::ModelWrapper;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::PolicyError;
use crate::guard::caught;
use crate::tokenizer_growth::{self as growth, Growth};
use serde_json::Value;

/// A tokenizer: one of Hugging Face's, one rebuilt from GGUF metadata, or a character tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: HashSet<u32>,
    vocab_size: usize,
    growth: Growth,
    prefix_space: Vec<bool>,
}

/// The parts of a `tokenizer.json` that make texts longer.
#[derive(serde::Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

impl Parts {
    fn check(&self) -> Result<Growth, String> {
        growth::check(&[&self.decoder])?;
        growth::check_around(&self.post_processor)?;
        growth::check(&[&self.normalizer, &self.pre_tokenizer])
    }
}

/// What the parts of a pre-tokenizer say about a space before texts.
fn prefix_space(part: &Value, said: &mut Vec<bool>) {
    said.extend(part.get("add_prefix_space").and_then(Value::as_bool));
    let list = part.get("pretokenizers").and_then(Value::as_array);
    list.into_iter().flatten().for_each(|part| prefix_space(part, said));
}

/// Longest `tokenizer.json` that is read, in bytes; the largest known ones have 35 million.
pub(crate) const MAX_FILE: u64 = 1 << 28;

/// Stands for a character outside the alphabet. It has no id, so that encoding such a character fails instead of
/// yielding a token that nobody asked for.
const NO_UNKNOWN_TOKEN: &str = "[not in the alphabet]";

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// Unreadable file, or one that is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, PolicyError> {
        Self::from_json(&crate::file::read(path, MAX_FILE)?, path)
    }

    /// Reads the content of a `tokenizer.json`; `path` is for messages. Truncation and padding that the file asks for
    /// are switched off: lengths are the caller's business.
    ///
    /// # Errors
    /// Content that is not a tokenizer.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(json).map_err(|e| tokenizer_error(path, &e))?;
        // The crate below panics on some files that are no JSON.
        let parts: Parts = serde_json::from_str(text).map_err(|e| tokenizer_error(path, &e))?;
        let unusable = |problem: String| PolicyError::Tokenizer { path: path.into(), problem };
        let growth = parts.check().map_err(unusable)?;
        let mut said = Vec::new();
        prefix_space(&parts.pre_tokenizer, &mut said);
        let parse = || tokenizers::Tokenizer::from_str(text).and_then(Self::new).map_err(|e| e.to_string());
        Ok(Self { growth, prefix_space: said, ..guarded(parse).map_err(unusable)? })
    }

    /// What each part of a `tokenizer.json` that puts a space before texts, or does not, says about it.
    pub(crate) fn prefix_space(&self) -> &[bool] {
        &self.prefix_space
    }

    /// Wraps a tokenizer of the `tokenizers` crate.
    pub(crate) fn new(mut inner: tokenizers::Tokenizer) -> Result<Self, tokenizers::Error> {
        inner.with_truncation(None)?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some()
        {
            tracing::warn!("the tokenizer's dropout is ignored: the same text has the same tokens each time");
            let mut model = model.clone();
            model.dropout = None;
            inner.with_model(model);
        }
        let special =
            inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        let growth = Growth::default();
        let mut tokenizer = Self { inner, special, vocab_size: 0, growth, prefix_space: Vec::new() };
        tokenizer.count();
        Ok(tokenizer)
    }

    fn count(&mut self) {
        let ids = self.inner.get_vocab(true).into_values();
        self.vocab_size = ids.max().map_or(0, |id| id as usize + 1);
    }

    /// Adds tokens to be found in text before it is cut up: each with the id that it has, else the next free one. Whether
    /// anything changed.
    pub(crate) fn add_tokens(&mut self, tokens: impl IntoIterator<Item = AddedToken>) -> bool {
        let known: HashSet<String> =
            self.inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        let is_special =
            |content: &str| self.inner.token_to_id(content).is_some_and(|id| self.special.contains(&id));
        let new = |token: &AddedToken| {
            !known.contains(&token.content) || (token.special && !is_special(&token.content))
        };
        let tokens: Vec<AddedToken> = tokens.into_iter().filter(new).collect();
        if tokens.is_empty() {
            return false;
        }
        self.inner.add_tokens(&tokens);
        let special = tokens.iter().filter(|token| token.special);
        self.special.extend(special.filter_map(|token| self.inner.token_to_id(&token.content)));
        self.count();
        true
    }

    /// One token a character: ids 0, 1, … are `specials` in order, then the characters of `alphabet` in order.
    ///
    /// It saves as a `tokenizer.json` that transformers loads, and decoding gives back exactly what was encoded,
    /// spaces and newlines included.
    ///
    /// # Errors
    /// A character or special token that occurs twice, an empty special token, or an empty alphabet.
    pub fn characters(alphabet: &str, specials: &[&str]) -> Result<Self, PolicyError> {
        let path = Path::new("(character tokenizer)");
        let invalid = |problem: String| PolicyError::Tokenizer { path: path.into(), problem };
        let characters = alphabet.chars().map(String::from);
        let tokens: Vec<String> = specials.iter().map(|s| (*s).to_owned()).chain(characters).collect();
        let mut seen = HashSet::new();
        if let Some(token) = tokens.iter().find(|t| t.is_empty() || !seen.insert(t.as_str())) {
            return Err(invalid(format!("token {token:?} is empty or occurs twice")));
        }
        if alphabet.is_empty() {
            return Err(invalid("the alphabet is empty".into()));
        }
        let vocab = tokens.into_iter().zip(0u32..).collect();
        let model = WordLevel::builder().vocab(vocab).unk_token(NO_UNKNOWN_TOKEN.into()).build();
        let mut inner = tokenizers::Tokenizer::new(model.map_err(|e| tokenizer_error(path, &e))?);
        let each = SplitPattern::Regex(r"[\s\S]".into());
        let split = Split::new(each, SplitDelimiterBehavior::Isolated, false);
        inner.with_pre_tokenizer(Some(split.map_err(|e| tokenizer_error(path, &e))?));
        inner.with_decoder(Some(tokenizers::decoders::fuse::Fuse::new()));
        let specials: Vec<_> =
            specials.iter().map(|s| AddedToken::from(*s, true).normalized(false)).collect();
        inner.add_special_tokens(&specials);
        Self::new(inner).map_err(|e| tokenizer_error(path, &e))
    }

    /// Token ids of a text. With `add_special`, also the tokens that the model wants around every text (such as
    /// Llama's begin-of-text). Special tokens that are spelled out in the text become their ids either way.
    ///
    /// # Errors
    /// [`PolicyError::UnknownCharacter`] from a character tokenizer; byte-level tokenizers encode every text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, PolicyError> {
        self.growth.allows(text).map_err(|problem| PolicyError::Encode { problem })?;
        let encode = || match self.inner.encode_fast(text, add_special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(e.to_string()),
        };
        guarded(encode)
            .map_err(|problem| self.unknown_character(text).unwrap_or(PolicyError::Encode { problem }))
    }

    /// The first character that a character tokenizer has no token for.
    fn unknown_character(&self, text: &str) -> Option<PolicyError> {
        if !matches!(self.inner.get_model(), ModelWrapper::WordLevel(_)) {
            return None;
        }
        let specials: Vec<String> = self.special.iter().filter_map(|id| self.id_to_token(*id)).collect();
        let mut offset = 0;
        while let Some(character) = text[offset..].chars().next() {
            let special = specials.iter().filter(|s| text[offset..].starts_with(s.as_str()));
            offset += match special.map(String::len).max() {
                Some(length) => length,
                None if self.token_to_id(character.encode_utf8(&mut [0; 4])).is_some() => {
                    character.len_utf8()
                }
                None => return Some(PolicyError::UnknownCharacter { character, offset }),
            };
        }
        None
    }

    /// Text of token ids; with `skip_special`, without the special tokens. Ids outside the vocabulary give no text, and
    /// bytes that are not UTF-8 give U+FFFD.
    ///
    /// # Errors
    /// Whatever the tokenizer's decoder reports; byte-level and character tokenizers never fail.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, PolicyError> {
        let decode = || self.inner.decode(ids, skip_special).map_err(|e| e.to_string());
        guarded(decode).map_err(|problem| PolicyError::Decode { problem })
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, spelled as in the vocabulary (byte-level tokenizers write a space as `Ġ`).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the largest id; the model's `vocab_size` may be larger.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether the id is a special token, which `decode` can skip.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// Whatever the `tokenizers` crate reports.
    pub fn to_json(&self) -> Result<String, PolicyError> {
        self.inner.to_string(false).map_err(|e| tokenizer_error(Path::new("tokenizer.json"), &e))
    }

    /// Writes a `tokenizer.json` that transformers loads.
    ///
    /// # Errors
    /// An unwritable file.
    pub fn save(&self, path: &Path) -> Result<(), PolicyError> {
        crate::file::write_file(path, self.to_json()?.as_bytes())
    }
}

/// Runs code of the `tokenizers` crate: some tokenizers that read well make it panic, which is an error like others.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    caught(run).unwrap_or_else(|said| Err(format!("the tokenizer panicked: {said}")))
}

fn tokenizer_error(path: &Path, error: &dyn std::fmt::Display) -> PolicyError {
    PolicyError::Tokenizer { path: path.into(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf_tokenizer::tokenizer_from_gguf;
    use crate::weights::GgufFile;
    use crate::{golden, golden_json};

    fn check(tokenizer: &Tokenizer, cases: &str) {
        let cases = golden_json(cases);
        for case in cases["encode"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            for (key, add_special) in [("ids", true), ("ids_no_special", false)] {
                let expected: Vec<u32> = serde_json::from_value(case[key].clone()).unwrap();
                assert_eq!(tokenizer.encode(text, add_special).unwrap(), expected, "{text:?} {key}");
            }
        }
    }

    #[test]
    fn encodes_as_the_golden_cases_say() {
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let tokenizer = Tokenizer::from_file(&golden(&format!("models/{name}/tokenizer.json"))).unwrap();
            check(&tokenizer, &format!("{name}.json"));
            assert!(tokenizer.is_special(2) && !tokenizer.is_special(50));
            assert!(tokenizer.vocab_size() <= 384);
        }
    }

    #[test]
    fn gguf_metadata_gives_the_same_tokenizer() {
        for name in ["tiny-llama", "tiny-qwen2"] {
            let file = GgufFile::open(&golden(&format!("policy/{name}.gguf"))).unwrap();
            let tokenizer = tokenizer_from_gguf(&file).unwrap();
            check(&tokenizer, &format!("{name}.json"));
            let original = Tokenizer::from_file(&golden(&format!("models/{name}/tokenizer.json"))).unwrap();
            assert_eq!(tokenizer.vocab_size(), original.vocab_size());
            for id in 0..original.vocab_size() as u32 {
                assert_eq!(tokenizer.id_to_token(id), original.id_to_token(id));
                assert_eq!(tokenizer.is_special(id), original.is_special(id));
            }
            let text = "<|im_start|>user\n  ½ 日本 12345<|im_end|>";
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), "user\n  ½ 日本 12345");
            let again =
                Tokenizer::from_json(tokenizer.to_json().unwrap().as_bytes(), Path::new("x")).unwrap();
            check(&again, &format!("{name}.json"));
        }
    }

    const ALPHABET: &str = "0123456789+= abc<>/\n\t.é";

    #[test]
    fn characters_round_trip_exactly() {
        let tokenizer = Tokenizer::characters(ALPHABET, &["<pad>", "<eos>", "<bos>"]).unwrap();
        assert_eq!(tokenizer.vocab_size(), 3 + ALPHABET.chars().count());
        assert_eq!(tokenizer.encode("01", true).unwrap(), [3, 4]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::from_file(&path).unwrap();
        for t in [&tokenizer, &loaded] {
            for text in ["", " ", "\n", "  \n\n a  b\t\n", "<a>12 + 3 = 15</a>\n", "é.é", ALPHABET] {
                let ids = t.encode(text, true).unwrap();
                assert_eq!(ids.len(), text.chars().count());
                assert_eq!(t.decode(&ids, true).unwrap(), text);
            }
            let ids = t.encode("1<eos>2", false).unwrap();
            assert_eq!(ids, [4, 1, 5]);
            assert_eq!(t.decode(&ids, true).unwrap(), "12");
            assert_eq!(t.decode(&ids, false).unwrap(), "1<eos>2");
            assert_eq!(t.token_to_id("<eos>"), Some(1));
            assert!(t.is_special(2) && !t.is_special(3));
            match t.encode("1<eos> z", false) {
                Err(PolicyError::UnknownCharacter { character: 'z', offset: 7 }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn senseless_alphabets_are_refused() {
        for (alphabet, specials) in [("aa", &["<eos>"][..]), ("", &["<eos>"]), ("a", &["a"]), ("a", &[""])] {
            assert!(Tokenizer::characters(alphabet, specials).is_err(), "{alphabet} {specials:?}");
        }
        let message = Tokenizer::from_json(b"{}", Path::new("dir/tokenizer.json")).unwrap_err().to_string();
        assert!(message.starts_with("tokenizer of dir/tokenizer.json: "), "{message}");
    }

    /// Numbers from a seed.
    fn draws(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        }
    }

    /// Replaces a node of a JSON value, chosen by chance.
    fn damage(value: &mut serde_json::Value, draw: &mut impl FnMut(usize) -> usize) {
        use serde_json::json;
        let deeper = draw(8) > 0;
        match value {
            serde_json::Value::Object(fields) if deeper && !fields.is_empty() => {
                let at = draw(fields.len());
                match fields.values_mut().nth(at) {
                    Some(inner) if draw(12) > 0 => damage(inner, draw),
                    _ => drop(fields.keys().nth(at).cloned().and_then(|key| fields.shift_remove(&key))),
                }
            }
            serde_json::Value::Array(items) if deeper && !items.is_empty() => {
                let at = draw(items.len());
                damage(&mut items[at], draw);
            }
            other => {
                let choices = [
                    json!(null),
                    json!(0),
                    json!(-1),
                    json!(4294967296u64),
                    json!(""),
                    json!("zz"),
                    json!([]),
                    json!({}),
                    json!(true),
                    json!([["a", "b"]]),
                    json!({"Regex": "("}),
                ];
                *other = choices[draw(choices.len())].clone();
            }
        }
    }

    /// `RLVR_MUTATIONS` files are tried, as many as a quick test can by default.
    #[test]
    fn a_damaged_tokenizer_is_an_error_or_works() {
        let tries = std::env::var("RLVR_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
        let (mut errors, mut read) = (0, 0);
        for name in ["tiny-llama", "tiny-qwen3"] {
            let whole = std::fs::read(golden(&format!("models/{name}/tokenizer.json"))).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            for seed in 0..tries {
                let mut draw = draws(seed);
                let mut bytes = whole.clone();
                match seed % 3 {
                    0 => bytes.truncate(draw(whole.len())),
                    1 => {
                        let at = draw(whole.len());
                        bytes[at] = b"\"0{}[]:,-e\\ \xff\x00"[draw(14)];
                    }
                    _ => {
                        let mut json = json.clone();
                        damage(&mut json, &mut draw);
                        bytes = json.to_string().into_bytes();
                    }
                }
                match Tokenizer::from_json(&bytes, Path::new("dir/tokenizer.json")) {
                    Err(problem) => {
                        assert!(problem.to_string().contains("dir/tokenizer.json"), "{problem}");
                        errors += 1;
                    }
                    Ok(tokenizer) => {
                        // Whatever they say, they do not panic.
                        let ids = tokenizer.encode("A b  <|im_start|>é😀\n12", true).unwrap_or_default();
                        let _ = (tokenizer.decode(&ids, true), tokenizer.decode(&[0, 1, 999_999], false));
                        let _ = tokenizer.to_json();
                        read += 1;
                    }
                }
            }
        }
        println!("{errors} refused, {read} read");
        assert!(errors > 0 && read > 0);
    }

    #[test]
    fn a_panic_of_the_tokenizer_is_an_error() {
        // It ends where its decoder begins.
        let cut = std::fs::read(golden("models/tiny-llama/tokenizer.json")).unwrap();
        let text = String::from_utf8(cut).unwrap();
        let end = text.find("\"decoder\"").unwrap() + "\"decoder\": {\"type\":".len();
        let problem =
            Tokenizer::from_json(&text.as_bytes()[..end], Path::new("dir/tokenizer.json")).unwrap_err();
        assert!(problem.to_string().starts_with("tokenizer of dir/tokenizer.json: EOF"), "{problem}");
        let panicked: Result<(), String> = guarded(|| panic!("no {}", "token"));
        assert_eq!(panicked.unwrap_err(), "the tokenizer panicked: no token");
    }
}
