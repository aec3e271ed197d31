//! A tokenizer out of the metadata of a GGUF file.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::PolicyError;
use crate::tokenizer::Tokenizer;
use crate::weights::{GgufFile, GgufValue};

/// Words of Llama 3: contractions, letters with one leading sign, up to three digits, signs, line ends, spaces.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of Qwen2: those of Llama 3, but every digit alone.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Kinds in `tokenizer.ggml.token_type`.
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;
const UNUSED: i128 = 5;

/// How text is cut into words before merging.
struct PreTokenizer {
    words: Words,
    /// Whether a word that is itself a token needs no merges.
    ignore_merges: bool,
    /// Whether a begin-of-text token is added when the metadata does not say.
    adds_bos: bool,
}

enum Words {
    Gpt2,
    Gpt2SingleDigits,
    Regex(&'static str),
    NfcRegex(&'static str),
}

/// Builds the tokenizer that `tokenizer.ggml.*` describes: byte-level BPE (`gpt2`) with the pre-tokenizers `gpt-2`,
/// `smollm`, `llama-bpe` and `qwen2`.
///
/// # Errors
/// Another kind of tokenizer or pre-tokenizer (the message names it and asks for the Hugging Face folder), or lists
/// that are missing or contradict each other.
pub(crate) fn tokenizer_from_gguf(file: &GgufFile) -> Result<Tokenizer, PolicyError> {
    let error = |problem: String| PolicyError::Tokenizer { path: file.path().into(), problem };
    let failed = |e: tokenizers::Error| error(e.to_string());
    let metadata = file.metadata();
    let text = |key: &str| metadata.get(key).and_then(GgufValue::as_str);
    let list = |key: &str| {
        let value = metadata.get(key).and_then(GgufValue::as_array);
        value.ok_or_else(|| error(format!("`{key}` is missing or not a list")))
    };

    match text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(other) => {
            return Err(error(format!(
                "`tokenizer.ggml.model` = {other} is not supported (supported: gpt2); use the Hugging Face folder"
            )));
        }
        None => return Err(error("`tokenizer.ggml.model` is missing".into())),
    }
    let pre = pre_tokenizer(text("tokenizer.ggml.pre")).map_err(error)?;

    let tokens: Vec<&str> = strings(list("tokenizer.ggml.tokens")?)
        .ok_or_else(|| error("`tokenizer.ggml.tokens` holds something else than strings".into()))?;
    let kinds: Vec<i128> = match metadata.get("tokenizer.ggml.token_type").and_then(GgufValue::as_array) {
        None => vec![1; tokens.len()],
        Some(kinds) if kinds.len() == tokens.len() => {
            kinds.iter().map(|k| if let GgufValue::Int(n) = k { *n } else { 1 }).collect()
        }
        Some(kinds) => {
            return Err(error(format!("{} tokens but {} token types", tokens.len(), kinds.len())));
        }
    };
    let mut vocab = std::collections::HashMap::new();
    for ((token, kind), id) in tokens.iter().zip(&kinds).zip(0u32..) {
        // Unused tokens only fill the embedding up; text never contains them.
        if *kind != UNUSED && vocab.insert((*token).to_owned(), id).is_some() {
            return Err(error(format!("token {token:?} occurs twice")));
        }
    }
    let mut merges = Vec::new();
    let lines = strings(list("tokenizer.ggml.merges")?)
        .ok_or_else(|| error("`tokenizer.ggml.merges` holds something else than strings".into()))?;
    for line in lines {
        // A token may begin with a space, never hold one.
        let cut = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(i, _)| i);
        let (left, right) = cut.map(|i| (&line[..i], &line[i + 1..])).unwrap_or((line, ""));
        let known = |t: &str| vocab.contains_key(t);
        if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
            return Err(error(format!("merge {line:?} is not of two tokens that make a third")));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }

    let mut bpe = BPE::new(vocab.into_iter().collect(), merges);
    bpe.ignore_merges = pre.ignore_merges;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let byte_level = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, true, use_regex));
    let split = |regex: &str| {
        Split::new(SplitPattern::Regex(regex.into()), SplitDelimiterBehavior::Isolated, false).map(Into::into)
    };
    match pre.words {
        Words::Gpt2 => tokenizer.with_pre_tokenizer(Some(byte_level(true))),
        Words::Gpt2SingleDigits => {
            let parts = vec![Digits::new(true).into(), byte_level(true)];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(parts)))
        }
        Words::Regex(regex) | Words::NfcRegex(regex) => {
            let parts = vec![split(regex).map_err(failed)?, byte_level(false)];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(parts)))
        }
    };
    if matches!(pre.words, Words::NfcRegex(_)) {
        tokenizer.with_normalizer(Some(NFC));
    }
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));

    let added = |wanted: i128, special: bool| -> Vec<AddedToken> {
        let chosen = tokens.iter().zip(&kinds).filter(|(_, kind)| **kind == wanted);
        chosen.map(|(token, _)| AddedToken::from(*token, special).normalized(false)).collect()
    };
    tokenizer.add_special_tokens(&added(CONTROL, true));
    tokenizer.add_tokens(&added(USER_DEFINED, false));

    let flag = |key: &str| metadata.get(key).and_then(GgufValue::as_bool);
    let token = |key: &str| {
        let id = metadata.get(key).and_then(GgufValue::as_u64).and_then(|id| u32::try_from(id).ok())?;
        Some(((*tokens.get(id as usize)?).to_owned(), id))
    };
    let around = |wanted: bool, key: &str| if wanted { token(key) } else { None };
    let bos =
        around(flag("tokenizer.ggml.add_bos_token").unwrap_or(pre.adds_bos), "tokenizer.ggml.bos_token_id");
    let eos = around(flag("tokenizer.ggml.add_eos_token").unwrap_or(false), "tokenizer.ggml.eos_token_id");
    if bos.is_some() || eos.is_some() {
        let pieces =
            bos.iter().map(|(t, _)| t.as_str()).chain(["$A"]).chain(eos.iter().map(|(t, _)| t.as_str()));
        let template = TemplateProcessing::builder()
            .try_single(pieces.collect::<Vec<_>>())
            .map_err(|e| error(e.to_string()))?
            .special_tokens(bos.iter().chain(&eos).cloned().collect::<Vec<_>>())
            .build()
            .map_err(|e| error(e.to_string()))?;
        tokenizer.with_post_processor(Some(template));
    }
    Tokenizer::new(tokenizer).map_err(failed)
}

fn strings(values: &[GgufValue]) -> Option<Vec<&str>> {
    values.iter().map(GgufValue::as_str).collect()
}

fn pre_tokenizer(name: Option<&str>) -> Result<PreTokenizer, String> {
    let (words, ignore_merges, adds_bos) = match name {
        Some("gpt-2") => (Words::Gpt2, false, false),
        Some("smollm") => (Words::Gpt2SingleDigits, false, false),
        Some("llama-bpe" | "llama3" | "llama-v3") => (Words::Regex(LLAMA3), true, true),
        Some("qwen2" | "deepseek-r1-qwen") => (Words::NfcRegex(QWEN2), false, false),
        other => {
            return Err(format!(
                "`tokenizer.ggml.pre` = {} is not supported (supported: gpt-2, smollm, llama-bpe, qwen2); use the \
                 Hugging Face folder",
                other.unwrap_or("(missing)")
            ));
        }
    };
    Ok(PreTokenizer { words, ignore_merges, adds_bos })
}
