//! How much longer a tokenizer may make a text before it cuts it up. A file can ask for a hundred replacements of one
//! letter by ten, and nothing in the crate that runs them would stop it.

use serde_json::Value;

/// Times that a text may become longer, in bytes.
const MAX_FACTOR: f64 = 1000.0;
/// Bytes that may be put in front of a text.
const MAX_PREFIX: f64 = 65_536.0;
/// Tokens that may be put around a text.
const MAX_AROUND: usize = 1000;
/// Parts of a tokenizer that follow each other.
const MAX_STEPS: usize = 1000;

/// Times that a text of any length may become longer; those of the supported families become 9 times longer at most.
const USUAL_FACTOR: f64 = 32.0;
/// Bytes that a text may become where its tokenizer makes texts longer than that.
const MAX_GROWN: f64 = (16 << 20) as f64;

/// The lengths that a text of `n` bytes can reach: `factor · n + prefix`.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    factor: f64,
    prefix: f64,
    steps: usize,
    /// Times that forms of Unicode have made a text longer since it was last changed otherwise: a form of a form is no
    /// longer than it.
    form: f64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { factor: 1.0, prefix: 0.0, steps: 0, form: 1.0 }
    }
}

/// Checks the parts of a `tokenizer.json` that change a text: `normalizer`, `pre_tokenizer`, `decoder`.
///
/// # Errors
/// What makes texts too long.
pub(crate) fn check(parts: &[&Value]) -> Result<Growth, String> {
    let mut growth = Growth::default();
    for part in parts {
        growth.add(part)?;
    }
    Ok(growth)
}

/// Checks the `post_processor`, which puts tokens around a text.
///
/// # Errors
/// Too many of them.
pub(crate) fn check_around(processor: &Value) -> Result<(), String> {
    let lists = ["single", "pair", "processors"].iter().filter_map(|key| processor.get(*key)?.as_array());
    let mut around = 0;
    for list in lists {
        around += list.len();
        list.iter().try_for_each(check_around)?;
    }
    let named = processor.get("special_tokens").and_then(Value::as_object);
    around += named.map_or(0, |named| {
        named.values().filter_map(|token| token.get("ids")?.as_array()).map(Vec::len).max().unwrap_or(0)
    });
    if around > MAX_AROUND {
        return Err(format!(
            "its post_processor puts {around} tokens around a text, at most {MAX_AROUND} are allowed"
        ));
    }
    Ok(())
}

impl Growth {
    /// Refuses a text that may become too long for what the tokenizer needs to cut it up.
    ///
    /// # Errors
    /// By how much.
    pub(crate) fn allows(&self, text: &str) -> Result<(), String> {
        let grown = self.factor * text.len() as f64 + self.prefix;
        match self.factor > USUAL_FACTOR && grown > MAX_GROWN {
            true => Err(format!(
                "the tokenizer may make a text of {} bytes {:.0} times longer, and at most {MAX_GROWN} bytes are cut up then",
                text.len(),
                self.factor
            )),
            false => Ok(()),
        }
    }

    fn add(&mut self, part: &Value) -> Result<(), String> {
        self.steps += 1;
        for list in ["normalizers", "pretokenizers", "decoders"] {
            part.get(list).and_then(Value::as_array).into_iter().flatten().try_for_each(|p| self.add(p))?;
        }
        let bytes = |key: &str| part.get(key).and_then(Value::as_str).map_or(0, str::len) as f64;
        match part.get("type").and_then(Value::as_str) {
            Some("Replace") => {
                self.form = 1.0;
                let literal = part.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str);
                let content = bytes("content");
                self.stretch(match literal {
                    Some(pattern) if !pattern.is_empty() => content / pattern.len() as f64,
                    // An expression may match nothing, between any two characters.
                    _ if content > 0.0 => content + 1.0,
                    _ => 1.0,
                });
            }
            Some("Prepend") => self.prefix += bytes("prepend"),
            Some("ByteLevel") => self.stretch(2.0),
            Some("BertNormalizer") => self.stretch(3.0),
            // One character of three bytes is eighteen of two, two accents stand beside their letter.
            Some("NFKD" | "NFKC") => self.unicode(12.0),
            Some("NFD" | "NFC") => self.unicode(3.0),
            Some("Lowercase") => self.stretch(1.5),
            Some("Metaspace") => self.stretch(3.0),
            Some("Precompiled") => {
                self.form = 1.0;
                let map = part.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
                self.stretch(longest_replacement(map) as f64);
            }
            _ => {}
        }
        if self.factor > MAX_FACTOR || self.prefix > MAX_PREFIX || self.steps > MAX_STEPS {
            return Err(format!(
                "its replacements can make a text more than {MAX_FACTOR} times longer, or put more than {MAX_PREFIX} \
                 bytes in front of it"
            ));
        }
        Ok(())
    }

    fn unicode(&mut self, by: f64) {
        self.stretch(by / self.form);
        self.form = self.form.max(by);
    }

    fn stretch(&mut self, by: f64) {
        self.factor *= by.max(1.0);
        self.prefix *= by.max(1.0);
    }
}

/// Bytes of the longest replacement in a character map of SentencePiece, in base 64: the length of a table, the table, and
/// replacements that each end in a zero byte.
fn longest_replacement(base64: &str) -> usize {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = base64.bytes().filter_map(digit).collect();
    let bytes: Vec<u8> = (digits.chunks(4))
        .flat_map(|four| {
            let bits = four.iter().fold(0, |bits, d| bits << 6 | d) << (6 * (4 - four.len()));
            let [_, a, b, c] = bits.to_be_bytes();
            [a, b, c].into_iter().take(four.len() * 6 / 8)
        })
        .collect();
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return 1 };
    let replacements = rest.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default();
    replacements.split(|b| *b == 0).map(<[u8]>::len).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokenizers::normalizers::unicode::NFKD;

    #[test]
    fn replacements_that_multiply_are_refused_and_usual_ones_are_not() {
        let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"String": pattern}, "content": content});
        let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "normalizers": parts});
        assert!(check(&[&sequence(vec![replace("a", "aaaaaaaaaa"); 9])]).is_err());
        assert!(check(&[&sequence(vec![replace("a", "aaaaaaaaaa"); 3])]).is_ok());
        let prepend = json!({"type": "Prepend", "prepend": "x".repeat(1000)});
        assert!(check(&[&sequence(vec![prepend; 100])]).is_err());
        let expression = json!({"type": "Replace", "pattern": {"Regex": "b*"}, "content": "ab"});
        assert!(check(&[&sequence(vec![expression; 20])]).is_err());
        assert!(check(&[&sequence(vec![json!({"type": "ByteLevel"}); 20])]).is_err());
        let llama = sequence(vec![json!({"type": "Prepend", "prepend": "▁"}), replace(" ", "▁")]);
        assert!(check(&[&llama, &json!(null), &json!({"type": "NFKC"})]).is_ok());
    }

    #[test]
    fn forms_of_unicode_count_and_bound_what_is_cut_up() {
        let grown = |kinds: &[&str]| {
            let parts: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
            check(&[&json!({"normalizers": parts})]).unwrap()
        };
        assert_eq!(grown(&["NFKD", "NFC", "NFKC", "StripAccents"]).factor, 12.0);
        assert_eq!(grown(&["NFC", "ByteLevel"]).factor, 6.0);
        for c in (0..0x2_0000).filter_map(char::from_u32) {
            let mut text = tokenizers::NormalizedString::from(c.to_string());
            tokenizers::Normalizer::normalize(&NFKD, &mut text).unwrap();
            assert!(text.get().len() <= 12 * c.len_utf8(), "{c:?}");
        }
        let long = "y".repeat(1 << 22);
        assert!(grown(&["NFKD", "ByteLevel"]).allows(&long).is_ok());
        let message = grown(&["NFKD", "ByteLevel", "ByteLevel"]).allows(&long).unwrap_err();
        assert!(message.contains("48 times longer"), "{message}");
        assert!(grown(&["NFKD", "ByteLevel", "ByteLevel"]).allows("usual").is_ok());
    }

    #[test]
    fn a_character_map_counts_by_its_longest_replacement() {
        // A table of no bytes, then `ab` and `abcde`.
        assert_eq!(longest_replacement("AAAAAGFiAGFiY2RlAA=="), 5);
        assert_eq!((longest_replacement(""), longest_replacement("?")), (1, 1));
    }

    #[test]
    fn tokens_around_a_text_are_counted() {
        let around =
            |n: usize| json!({"type": "TemplateProcessing", "single": vec![json!({"Sequence": {}}); n]});
        assert!(check_around(&around(3)).is_ok() && check_around(&around(2000)).is_err());
        let ids = json!({"special_tokens": {"x": {"ids": vec![1; 5000]}}});
        assert!(check_around(&json!({"type": "Sequence", "processors": [ids]})).is_err());
    }
}
