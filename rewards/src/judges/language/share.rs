//! How much of a text is written in a language.
//!
//! Letters are counted, one of Chinese as three and one of kana as two, so that a word counts alike in every script. Letters
//! of other scripts count against the language: in full where they make up a clause, a third where they are a term or a
//! name inside of its own sentences. Letters of its script are judged in pieces of some sentences: by the commonest words
//! of each language and by `whatlang`'s trigrams. Where neither tells, which is so for a few words, they count for it unless
//! they are in plain Latin letters, which may be of any language.

use std::collections::HashMap;
use std::sync::LazyLock;

use whatlang::{Lang, Script, detect};

/// The commonest words: of which languages a word is.
static COMMON: LazyLock<HashMap<&'static str, Vec<Lang>>> = LazyLock::new(|| {
    let mut words: HashMap<&'static str, Vec<Lang>> = HashMap::new();
    for line in include_str!("common_words.txt").lines().filter(|l| !l.starts_with('#')) {
        let mut list = line.split_whitespace();
        let Some(lang) = list.next().and_then(Lang::from_code) else { continue };
        list.for_each(|word| words.entry(word).or_default().push(lang));
    }
    words
});

/// Weighted letters from which a piece is judged by itself; more in a text with more than so many pieces.
const PIECE: usize = 30;
const PIECES: usize = 200;
/// Words of another script that make up a clause, fewer where a common word is among them.
const CLAUSE_WORDS: usize = 6;
const CLAUSE_WITH_COMMON: usize = 3;
/// Weighted letters of a script without spaces that make up a clause.
const CLAUSE_LETTERS: usize = 24;

/// What of a text is in a language, in weighted letters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub(crate) own: f64,
    pub(crate) other: f64,
}

impl Share {
    /// The share in [0, 1]; 0 without letters.
    pub(crate) fn value(self) -> f64 {
        if self.own > 0.0 { self.own / (self.own + self.other) } else { 0.0 }
    }
}

/// The script of a letter.
fn script_of(c: char) -> Option<Script> {
    if !c.is_alphabetic() {
        return None;
    }
    Some(match c as u32 {
        0x41..=0x24F | 0x1E00..=0x1EFF | 0xFF21..=0xFF5A => Script::Latin,
        0x370..=0x3FF | 0x1F00..=0x1FFF => Script::Greek,
        0x400..=0x52F => Script::Cyrillic,
        0x531..=0x58F => Script::Armenian,
        0x590..=0x5FF => Script::Hebrew,
        0x600..=0x6FF | 0x750..=0x77F | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => Script::Arabic,
        0x900..=0x97F => Script::Devanagari,
        0x980..=0x9FF => Script::Bengali,
        0xA00..=0xA7F => Script::Gurmukhi,
        0xA80..=0xAFF => Script::Gujarati,
        0xB00..=0xB7F => Script::Oriya,
        0xB80..=0xBFF => Script::Tamil,
        0xC00..=0xC7F => Script::Telugu,
        0xC80..=0xCFF => Script::Kannada,
        0xD00..=0xD7F => Script::Malayalam,
        0xD80..=0xDFF => Script::Sinhala,
        0xE00..=0xE7F => Script::Thai,
        0x1000..=0x109F => Script::Myanmar,
        0x10A0..=0x10FF => Script::Georgian,
        0x1100..=0x11FF | 0x3130..=0x318F | 0xAC00..=0xD7A3 => Script::Hangul,
        0x1200..=0x139F => Script::Ethiopic,
        0x1780..=0x17FF => Script::Khmer,
        0x3040..=0x309F => Script::Hiragana,
        0x30A0..=0x30FF | 0xFF66..=0xFF9F => Script::Katakana,
        0x3005 | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x2FFFF => Script::Mandarin,
        _ => return None,
    })
}

fn weight(script: Script) -> usize {
    match script {
        Script::Mandarin => 3,
        Script::Hiragana | Script::Katakana | Script::Hangul => 2,
        _ => 1,
    }
}

/// Whether `lang` may be written in `script`; Chinese and Japanese are told apart piece by piece.
fn writes(lang: Lang, script: Script) -> bool {
    let east = matches!(script, Script::Mandarin | Script::Hiragana | Script::Katakana);
    script.langs().contains(&lang) || east && matches!(lang, Lang::Jpn | Lang::Cmn)
}

/// Weighted letters of a text.
pub(crate) fn letters(text: &str) -> usize {
    text.chars().filter_map(script_of).map(weight).sum()
}

/// Whether a piece in the script of `lang` is in `lang`; `sure` is the confidence from which whatlang is believed.
fn is_in(piece: &str, lang: Lang, script: Script, sure: f64) -> bool {
    // A script of one language tells. Japanese has kana among its Chinese characters, Chinese only where it quotes some.
    if matches!(script, Script::Mandarin | Script::Hiragana | Script::Katakana) {
        let scripts = || piece.chars().filter_map(script_of);
        let kana = scripts().filter(|s| matches!(s, Script::Hiragana | Script::Katakana)).count();
        let least = if lang == Lang::Jpn { 0.1 } else { 0.3 };
        return (lang == Lang::Jpn) == (kana as f64 > least * scripts().count() as f64);
    }
    if script.langs().len() == 1 {
        return true;
    }
    let lower = piece.to_lowercase();
    let mut hits: HashMap<Lang, usize> = HashMap::new();
    for word in lower.split(|c: char| !(c.is_alphabetic() || is_mark(c) || c == '\'')) {
        for lang in COMMON.get(word).into_iter().flatten() {
            *hits.entry(*lang).or_default() += 1;
        }
    }
    let of = |lang: Lang| hits.get(&lang).copied().unwrap_or(0);
    let own = of(lang);
    let most = hits.iter().filter(|(l, _)| **l != lang).map(|(_, n)| *n).max().unwrap_or(0);
    // Where the common words tell, the trigrams change nothing below, and they are slow.
    if own == 0 && most > 1 || own > 2 * most + 1 {
        return own > 0;
    }
    match detect(piece) {
        Some(info) if info.lang() != lang => match info.confidence() {
            // A few words that are in no list: in plain Latin letters they may be of any language.
            found if found < sure => own >= most && (own > 0 || !is_plain(piece)),
            // Close relatives share most words.
            found if found < 0.8 => own > of(info.lang()) && own >= most,
            _ => own > 2 * of(info.lang()) + 1,
        },
        // A label that nothing else speaks for is a guess.
        Some(info) => {
            let told = own > 0 || info.confidence() >= sure || lang == Lang::Eng || !is_plain(piece);
            told && most <= 2 * own + 1
        }
        None => own >= most && own > 0,
    }
}

/// Whether all letters are those of English.
fn is_plain(piece: &str) -> bool {
    piece.chars().all(|c| c.is_ascii() || !c.is_alphabetic())
}

/// Vowel signs, which are no letters and inside of words.
fn is_mark(c: char) -> bool {
    matches!(c as u32, 0x300..=0x36F | 0x64B..=0x65F | 0x900..=0x903 | 0x93A..=0x94F | 0x951..=0x957 | 0x962..=0x963)
}

/// Letters of other scripts between letters of the own one.
#[derive(Default)]
struct Foreign {
    letters: usize,
    dense: usize,
    words: usize,
    common: bool,
    word: String,
}

impl Foreign {
    fn push(&mut self, c: char, script: Script) {
        self.letters += weight(script);
        self.dense += if weight(script) > 1 { weight(script) } else { 0 };
        self.word.extend(c.to_lowercase());
    }

    fn end_word(&mut self) {
        // A single letter is a variable.
        if self.word.chars().nth(1).is_some() {
            self.words += 1;
            self.common |= COMMON.contains_key(&*self.word);
        }
        self.word.clear();
    }

    /// What the letters count, and nothing is left of them.
    fn take(&mut self) -> f64 {
        self.end_word();
        let clause = self.words >= CLAUSE_WORDS
            || self.common && self.words >= CLAUSE_WITH_COMMON
            || self.dense >= CLAUSE_LETTERS;
        let count = self.letters as f64 / if clause { 1.0 } else { 3.0 };
        *self = Self::default();
        count
    }
}

/// A text as it is read: the piece at hand, what came before it, and what of other scripts is between.
struct Reader {
    lang: Lang,
    sure: f64,
    share: Share,
    foreign: Foreign,
    piece: String,
    /// Weighted letters from which a piece is judged.
    least: usize,
    /// Weighted letters of the piece.
    count: usize,
    /// The script that was met last.
    script: Option<Script>,
}

impl Reader {
    fn push(&mut self, c: char) {
        match script_of(c) {
            Some(script) if writes(self.lang, script) => {
                self.share.other += self.foreign.take();
                self.count += weight(script);
                self.script = Some(script);
                self.piece.push(c);
            }
            Some(script) => {
                self.foreign.push(c, script);
                if !self.piece.ends_with(' ') {
                    self.piece.push(' ');
                }
            }
            None if is_mark(c) => self.piece.push(c),
            None => {
                self.foreign.end_word();
                self.piece.push(c);
            }
        }
        if self.count >= self.least
            && matches!(c, '.' | '!' | '?' | '\n' | '。' | '！' | '？' | '؟' | '।' | '；')
        {
            self.judge_piece();
        }
    }

    fn judge_piece(&mut self) {
        if let Some(script) = self.script {
            let own = is_in(&self.piece, self.lang, script, self.sure);
            *(if own { &mut self.share.own } else { &mut self.share.other }) += self.count as f64;
        }
        self.piece.clear();
        self.count = 0;
    }

    fn finish(mut self) -> Share {
        let before = self.share.own + self.share.other;
        // A rest of a few letters goes with what was before it.
        if self.count < self.least / 2 && before > 0.0 && self.share.own > 0.0 {
            let scale = 1.0 + self.count as f64 / before;
            self.share.own *= scale;
            self.share.other *= scale;
        } else {
            self.judge_piece();
        }
        self.share.other += self.foreign.take();
        self.share
    }
}

/// How much of `text` is in `lang`; `sure` is the confidence from which whatlang is believed.
pub(crate) fn share(text: &str, lang: Lang, sure: f64) -> Share {
    let mut reader = Reader {
        lang,
        sure,
        share: Share::default(),
        foreign: Foreign::default(),
        piece: String::new(),
        least: PIECE.max(letters(text) / PIECES),
        count: 0,
        script: None,
    };
    text.chars().for_each(|c| reader.push(c));
    reader.finish()
}
