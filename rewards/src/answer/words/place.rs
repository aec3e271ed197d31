//! Where a text comes from: whether the language that it is written in has a decimal comma.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::super::cut;
use super::table::languages;

/// Bytes at the end of a text that are read.
const READ: usize = 2048;

/// The languages that have a word, as bits.
static WORDS: LazyLock<HashMap<&'static str, u64>> = LazyLock::new(|| {
    let mut words: HashMap<&'static str, u64> = HashMap::new();
    for (bit, language) in languages().iter().enumerate() {
        for entry in language.all() {
            // "antwoord[en]" is known by its stem, but a stem before any letters would fit other words.
            let stems = entry.phrase.split(' ').map(|w| w.split('[').next().unwrap_or(w));
            let plain = stems.filter(|w| !w.is_empty() && w.chars().all(char::is_alphabetic));
            plain.for_each(|word| *words.entry(word).or_default() |= 1 << bit);
        }
    }
    words
});

/// The languages with a decimal comma, as bits.
static COMMA: LazyLock<u64> = LazyLock::new(|| {
    let comma =
        |language: &&super::table::Language| language.of("decimal").iter().any(|e| e.phrase == "comma");
    languages().iter().enumerate().filter(|(_, l)| comma(l)).map(|(bit, _)| 1 << bit).sum()
});

/// Whether the language of `text` has a decimal comma: the one that knows most of its words does, and no other knows as
/// many. A text without words has no language.
pub(crate) fn writes_comma(text: &str) -> bool {
    let mut counts = [0u32; 64];
    let lower = cut::tail(text, READ).to_lowercase();
    for word in lower.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()) {
        let mut bits = WORDS.get(word).copied().unwrap_or(0);
        while bits != 0 {
            counts[bits.trailing_zeros() as usize] += 1;
            bits &= bits - 1;
        }
    }
    let best = |with: bool| {
        let fits = |bit: &usize| (*COMMA >> bit & 1 == 1) == with;
        (0..64).filter(fits).map(|bit| counts[bit]).max().unwrap_or(0)
    };
    best(true) > best(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_with_a_decimal_comma() {
        for text in [
            "Die Antwort ist 3,5.",
            "La respuesta es 3,5",
            "La réponse est 3,5.",
            "Ответ: 3,5",
            "Wir rechnen 7/2, also ist es \\boxed{3,5}.",
            "Het antwoord is 3,5",
            "A resposta é 3,5",
            "Svaret är 3,5",
            "Odpowiedź to 3,5",
        ] {
            assert!(writes_comma(text), "{text}");
        }
        for text in
            ["The answer is 3,5.", "\\boxed{3,5}", "答案是3,5。", "", "x = 3,5", "So the points are 3,5"]
        {
            assert!(!writes_comma(text), "{text}");
        }
    }
}
