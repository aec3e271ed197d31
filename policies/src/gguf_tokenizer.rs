//! A tokenizer out of the metadata of a GGUF file.

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
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
use crate::weights::{GgufArray, GgufFile, GgufValue};

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

/// Words of Mistral's Tekken: capitals end a word, every digit alone.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of DeepSeek Coder, cut out one kind after the other: line ends, letters, signs, East Asian text, digits.
const DEEPSEEK_CODER: [&str; 5] = [
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+",
    r"\p{N}",
];
/// Words of DeepSeek LLM, likewise, with the letters that have cases and the signs listed.
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    DEEPSEEK_LETTERS,
    "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+",
    r"\s+$",
    "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+",
    r"\p{N}",
];
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ",
    "ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ",
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃",
    "]+"
);

/// Longest token of SentencePiece that is read, in bytes; those of known vocabularies have below 100.
const PIECE_BYTES: usize = 512;
/// SentencePiece's mark for a space.
const SPACE: &str = "▁";

/// Kinds in `tokenizer.ggml.token_type`.
const NORMAL: i128 = 1;
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
    /// Regular expressions of words that are cut out one after the other.
    Cut(&'static [&'static str]),
}

/// What both kinds of tokenizers are made of.
struct Pieces<'a> {
    file: &'a GgufFile,
    tokens: Vec<&'a str>,
    kinds: Vec<i128>,
    vocab: HashMap<String, u32>,
}

/// Builds the tokenizer that `tokenizer.ggml.*` describes: byte-level BPE (`gpt2`) with the pre-tokenizers `gpt-2`,
/// `smollm`, `llama-bpe`, `falcon3`, `qwen2`, `tekken`, `deepseek-llm` and `deepseek-coder`, or SentencePiece BPE
/// (`llama`).
///
/// # Errors
/// Another kind of tokenizer or pre-tokenizer (the message names it and asks for the Hugging Face folder), or lists
/// that are missing or contradict each other.
pub(crate) fn tokenizer_from_gguf(file: &GgufFile) -> Result<Tokenizer, PolicyError> {
    build(file).map_err(|problem| PolicyError::Tokenizer { path: file.path().into(), problem })
}

fn build(file: &GgufFile) -> Result<Tokenizer, String> {
    let model = file.metadata().get("tokenizer.ggml.model").and_then(GgufValue::as_str);
    let pieces = Pieces::read(file)?;
    let (mut tokenizer, adds_bos) = match model {
        Some("gpt2") => pieces.byte_level()?,
        Some("llama") => (pieces.sentence_piece()?, true),
        other => {
            return Err(format!(
                "`tokenizer.ggml.model` = {} is not supported (supported: gpt2, llama); use the Hugging Face folder",
                other.unwrap_or("(missing)")
            ));
        }
    };
    tokenizer.add_special_tokens(&pieces.added(CONTROL, true));
    tokenizer.add_tokens(&pieces.added(USER_DEFINED, false));

    let around = |flag: &str, default: bool, id: &str| {
        if pieces.flag(flag).unwrap_or(default) { pieces.token(id) } else { None }
    };
    let bos = around("tokenizer.ggml.add_bos_token", adds_bos, "tokenizer.ggml.bos_token_id");
    let eos = around("tokenizer.ggml.add_eos_token", false, "tokenizer.ggml.eos_token_id");
    if bos.is_some() || eos.is_some() {
        let before = bos.iter().map(|(t, _)| t.as_str());
        let after = eos.iter().map(|(t, _)| t.as_str());
        let template = TemplateProcessing::builder()
            .try_single(before.chain(["$A"]).chain(after).collect::<Vec<_>>())?
            .special_tokens(bos.iter().chain(&eos).cloned().collect::<Vec<_>>())
            .build()
            .map_err(|e| e.to_string())?;
        tokenizer.with_post_processor(Some(template));
    }
    Tokenizer::new(tokenizer).map_err(|e| e.to_string())
}

impl<'a> Pieces<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, String> {
        let mut pieces = Self { file, tokens: Vec::new(), kinds: Vec::new(), vocab: HashMap::new() };
        pieces.tokens = pieces.strings("tokenizer.ggml.tokens")?;
        let count = pieces.tokens.len();
        pieces.kinds = match file.metadata().get("tokenizer.ggml.token_type").and_then(GgufValue::as_array) {
            None => vec![NORMAL; count],
            Some(kinds) if kinds.len() == count => {
                let kind = |k| if let GgufValue::Int(n) = k { n } else { NORMAL };
                let kinds =
                    kinds.scalars().ok_or("`tokenizer.ggml.token_type` holds something else than numbers")?;
                kinds.map(kind).collect()
            }
            Some(kinds) => return Err(format!("{count} tokens but {} token types", kinds.len())),
        };
        for ((token, kind), id) in pieces.tokens.iter().zip(&pieces.kinds).zip(0u32..) {
            // Unused tokens only fill the embedding up; text never contains them.
            if *kind != UNUSED && pieces.vocab.insert((*token).to_owned(), id).is_some() {
                return Err(format!("token {token:?} occurs twice"));
            }
        }
        Ok(pieces)
    }

    fn list(&self, key: &str) -> Result<&'a GgufArray, String> {
        let value = self.file.metadata().get(key).and_then(GgufValue::as_array);
        value.ok_or_else(|| format!("`{key}` is missing or not a list"))
    }

    fn strings(&self, key: &str) -> Result<Vec<&'a str>, String> {
        let strings = self.list(key)?.strings();
        Ok(strings.ok_or_else(|| format!("`{key}` holds something else than strings"))?.collect())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.file.metadata().get(key).and_then(GgufValue::as_bool)
    }

    /// The token whose id a key holds.
    fn token(&self, key: &str) -> Option<(String, u32)> {
        let id = self.file.metadata().get(key)?.as_u64()?;
        Some(((*self.tokens.get(usize::try_from(id).ok()?)?).to_owned(), u32::try_from(id).ok()?))
    }

    /// Tokens of a kind, to be found in text before it is cut up.
    fn added(&self, wanted: i128, special: bool) -> Vec<AddedToken> {
        let chosen = self.tokens.iter().zip(&self.kinds).filter(|(_, kind)| **kind == wanted);
        chosen.map(|(token, _)| AddedToken::from(*token, special).normalized(false)).collect()
    }

    /// Byte-level BPE, and whether a begin-of-text token is added when the metadata does not say.
    fn byte_level(&self) -> Result<(tokenizers::Tokenizer, bool), String> {
        let pre = pre_tokenizer(self.file.metadata().get("tokenizer.ggml.pre").and_then(GgufValue::as_str))?;
        let mut merges = Vec::new();
        for line in self.strings("tokenizer.ggml.merges")? {
            // A token may begin with a space, never hold one.
            let cut = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(i, _)| i);
            let (left, right) = cut.map_or((line, ""), |i| (&line[..i], &line[i + 1..]));
            let known = |t: &str| self.vocab.contains_key(t);
            // The constructor of the model panics on these.
            if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
                return Err(format!("merge {line:?} is not of two tokens that make a third"));
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        let mut bpe = BPE::new(self.vocab.clone().into_iter().collect(), merges);
        bpe.ignore_merges = pre.ignore_merges;
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, true, use_regex));
        match pre.words {
            Words::Gpt2 => tokenizer.with_pre_tokenizer(Some(bytes(true))),
            Words::Gpt2SingleDigits => {
                let parts = vec![Digits::new(true).into(), bytes(true)];
                tokenizer.with_pre_tokenizer(Some(Sequence::new(parts)))
            }
            Words::Regex(regex) | Words::NfcRegex(regex) => {
                tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split(regex)?, bytes(false)])))
            }
            Words::Cut(regexes) => {
                let mut parts = regexes.iter().map(|regex| split(regex)).collect::<Result<Vec<_>, _>>()?;
                parts.push(bytes(false));
                tokenizer.with_pre_tokenizer(Some(Sequence::new(parts)))
            }
        };
        if matches!(pre.words, Words::NfcRegex(_)) {
            tokenizer.with_normalizer(Some(NFC));
        }
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        Ok((tokenizer, pre.adds_bos))
    }

    /// SentencePiece's BPE: spaces become `▁`, one is put in front, unknown characters fall back to byte tokens. The
    /// file holds a score a token instead of merges: the better the score, the earlier two tokens join to it.
    fn sentence_piece(&self) -> Result<tokenizers::Tokenizer, String> {
        let scores = self.list("tokenizer.ggml.scores")?;
        if scores.len() != self.tokens.len() {
            return Err(format!("{} tokens but {} scores", self.tokens.len(), scores.len()));
        }
        let not_numbers = "`tokenizer.ggml.scores` holds something else than numbers";
        let scores = scores.scalars().ok_or(not_numbers)?;
        let mut ranked = Vec::new();
        for ((token, kind), score) in self.tokens.iter().zip(&self.kinds).zip(scores) {
            let score = score.as_f64().ok_or(not_numbers)?;
            if *kind != NORMAL {
                continue;
            }
            // Every cut of a token is looked up.
            if token.len() > PIECE_BYTES {
                return Err(format!("a token of {} bytes; the longest read is {PIECE_BYTES}", token.len()));
            }
            for (cut, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(cut);
                if let (Some(l), Some(r)) = (self.vocab.get(left), self.vocab.get(right)) {
                    ranked.push((score, *l, *r, left, right));
                }
            }
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let merges =
            ranked.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect();
        let mut bpe = BPE::new(self.vocab.clone().into_iter().collect(), merges);
        bpe.byte_fallback = true;
        bpe.fuse_unk = true;
        bpe.unk_token = self.token("tokenizer.ggml.unknown_token_id").map(|(token, _)| token);
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let spaces = || Replace::new(" ", SPACE).map_err(|e| e.to_string());
        let mut normalizers: Vec<NormalizerWrapper> = vec![spaces()?.into()];
        if self.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true) {
            normalizers.insert(0, Prepend::new(SPACE.into()).into());
        }
        let mut decoders: Vec<DecoderWrapper> = vec![
            Replace::new(SPACE, " ").map_err(|e| e.to_string())?.into(),
            ByteFallback::new().into(),
            Fuse::new().into(),
        ];
        if normalizers.len() == 2 {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_normalizer(Some(tokenizers::normalizers::Sequence::new(normalizers)));
        tokenizer.with_decoder(Some(tokenizers::decoders::sequence::Sequence::new(decoders)));
        Ok(tokenizer)
    }
}

/// Cuts text so that every match of a regular expression is a word of its own.
fn split(regex: &str) -> Result<PreTokenizerWrapper, String> {
    let split = Split::new(SplitPattern::Regex(regex.into()), SplitDelimiterBehavior::Isolated, false);
    split.map(PreTokenizerWrapper::from).map_err(|e| e.to_string())
}

fn pre_tokenizer(name: Option<&str>) -> Result<PreTokenizer, String> {
    let (words, ignore_merges, adds_bos) = match name {
        Some("gpt-2") => (Words::Gpt2, false, false),
        Some("smollm") => (Words::Gpt2SingleDigits, false, false),
        // llama.cpp takes the words of Falcon 3 for those of Llama 3.
        Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3") => (Words::Regex(LLAMA3), true, true),
        Some("qwen2" | "deepseek-r1-qwen") => (Words::NfcRegex(QWEN2), false, false),
        Some("tekken") => (Words::Regex(TEKKEN), true, true),
        Some("deepseek-llm") => (Words::Cut(&DEEPSEEK_LLM), false, false),
        Some("deepseek-coder") => (Words::Cut(&DEEPSEEK_CODER), false, false),
        other => {
            return Err(format!(
                "`tokenizer.ggml.pre` = {} is not supported (supported: gpt-2, smollm, llama-bpe, falcon3, qwen2, \
                 tekken, deepseek-llm, deepseek-coder); use the Hugging Face folder",
                other.unwrap_or("(missing)")
            ));
        }
    };
    Ok(PreTokenizer { words, ignore_merges, adds_bos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{golden, golden_json};

    // Byte-level tokenizers are tested beside `Tokenizer`, against the golden encodings.

    #[test]
    fn sentence_piece_encodes_and_decodes_as_the_original() {
        let file = GgufFile::open(&golden("policy/spm.gguf")).unwrap();
        let tokenizer = tokenizer_from_gguf(&file).unwrap();
        let golden = golden_json("policy/spm.json");
        let bos = golden["bos"].as_u64().unwrap() as u32;
        let reloaded = Tokenizer::from_json(tokenizer.to_json().unwrap().as_bytes(), "x".as_ref()).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            for t in [&tokenizer, &reloaded] {
                let ids = t.encode(text, false).unwrap();
                assert_eq!(ids, expected, "{text:?}");
                assert_eq!(t.decode(&ids, true).unwrap(), case["decoded"].as_str().unwrap());
                assert_eq!(t.encode(text, true).unwrap(), [&[bos], &expected[..]].concat());
            }
        }
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_named() {
        let message = pre_tokenizer(Some("gpt-4o")).err().unwrap();
        assert!(message.contains("`tokenizer.ggml.pre` = gpt-4o") && message.contains("Hugging Face folder"));
        assert!(pre_tokenizer(None).is_err());
    }

    /// The words that a pre-tokenizer cuts a text into.
    fn words(name: &str, text: &str) -> Vec<String> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};
        let splits = match pre_tokenizer(Some(name)).unwrap().words {
            Words::Cut(regexes) => regexes.to_vec(),
            Words::Regex(regex) | Words::NfcRegex(regex) => vec![regex],
            _ => unreachable!(),
        };
        let mut cut = PreTokenizedString::from(text);
        for regex in splits {
            split(regex).unwrap().pre_tokenize(&mut cut).unwrap();
        }
        let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(word, ..)| word.to_owned()).collect()
    }

    #[test]
    fn words_of_each_pre_tokenizer() {
        let text = "It's  XMLHttp 1234,\n\n日本語.";
        let check = |name: &str, expected: &[&str]| assert_eq!(words(name, text), expected, "{name}");
        check("llama-bpe", &["It", "'s", " ", " XMLHttp", " ", "123", "4", ",\n\n", "日本語", "."]);
        check("falcon3", &["It", "'s", " ", " XMLHttp", " ", "123", "4", ",\n\n", "日本語", "."]);
        check("qwen2", &["It", "'s", " ", " XMLHttp", " ", "1", "2", "3", "4", ",\n\n", "日本語", "."]);
        check("tekken", &["It", "'s", " ", " XMLHttp", " ", "1", "2", "3", "4", ",\n\n", "日本語", "."]);
        let cut = ["It", "'", "s", " ", " XMLHttp", " ", "1", "2", "3", "4", ",", "\n", "\n", "日本語", "."];
        check("deepseek-llm", &cut);
        check("deepseek-coder", &cut);
        assert_eq!(words("tekken", "CamelCaseWORDs a"), ["Camel", "Case", "WORDs", " a"]);
        assert_eq!(words("deepseek-llm", "ａ１（x\u{3000}"), ["ａ", "１", "（", "x", "\u{3000}"]);
    }

    /// Vocabularies with texts and their tokens, as llama.cpp publishes them: `RLVR_VOCABS` is a directory with
    /// `ggml-vocab-NAME.gguf`, `.gguf.inp` and `.gguf.out`.
    #[test]
    #[ignore = "needs a directory of vocabularies"]
    fn given_vocabularies() {
        let dir =
            std::path::PathBuf::from(std::env::var_os("RLVR_VOCABS").expect("RLVR_VOCABS names a directory"));
        let mut wrong = Vec::new();
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "gguf")) {
            let read = |ending: &str| std::fs::read_to_string(path.with_extension(ending)).unwrap();
            let (texts, ids) = (read("gguf.inp"), read("gguf.out"));
            let tokenizer = match tokenizer_from_gguf(&GgufFile::open(&path).unwrap()) {
                Ok(tokenizer) => tokenizer,
                Err(problem) => {
                    println!("{problem}");
                    continue;
                }
            };
            let texts: Vec<&str> = texts.split_terminator("\n__ggml_vocab_test__\n").collect();
            let lines: Vec<&str> = ids.lines().collect();
            let mut equal = 0;
            for (text, line) in texts.iter().zip(&lines) {
                let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
                let found = tokenizer.encode(text, false).unwrap();
                equal += usize::from(found == expected);
                if found != expected {
                    println!("{}: {text:?}: {found:?}, not {expected:?}", path.display());
                }
            }
            println!("{}: {equal} of {} texts equal", path.display(), texts.len());
            if equal != texts.len() || lines.len() < texts.len() {
                wrong.push(path);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
