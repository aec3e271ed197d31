//! The files of `languages/`: `[key]`, then words separated by commas, some with a value (`two = 2`).

use std::collections::HashMap;
use std::sync::LazyLock;

/// What the keys of whole patterns begin with; their lines are not split.
pub(super) const PATTERN: &str = "pattern.";

/// A word or phrase of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) phrase: &'static str,
    /// What it stands for; empty where the key has no values.
    pub(crate) value: &'static str,
}

/// The table of a language.
#[derive(Debug)]
pub(super) struct Language {
    keys: HashMap<&'static str, Vec<Entry>>,
}

impl Language {
    /// The words under `key`.
    pub(super) fn of(&self, key: &str) -> &[Entry] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// The words and phrases under keys that hold no patterns.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.keys.iter().filter(|(key, _)| !key.starts_with(PATTERN)).flat_map(|(_, list)| list)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &[Entry])> {
        self.keys.iter().map(|(key, list)| (*key, list.as_slice()))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub(super) fn parse(code: &str, file: &'static str) -> Result<Self, String> {
        let mut keys: HashMap<&'static str, Vec<Entry>> = HashMap::new();
        let mut key = "";
        for (number, line) in file.lines().map(str::trim).enumerate() {
            let wrong = |what: &str| format!("{code}, line {}: {what}", number + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'))
                && !name.contains(['[', ' '])
            {
                key = name;
                if keys.insert(key, Vec::new()).is_some() {
                    return Err(wrong("the key stands twice"));
                }
                continue;
            }
            let Some(list) = keys.get_mut(key) else { return Err(wrong("words without a key")) };
            if key.starts_with(PATTERN) {
                list.push(Entry { phrase: line, value: "" });
                continue;
            }
            for item in line.split(", ").map(|i| i.trim_end_matches(',').trim()).filter(|i| !i.is_empty()) {
                let (phrase, value) = item.rsplit_once(" = ").unwrap_or((item, ""));
                if list.iter().any(|e| e.phrase == phrase) {
                    return Err(wrong(&format!("{phrase} stands twice")));
                }
                list.push(Entry { phrase: phrase.trim(), value: value.trim() });
            }
        }
        Ok(Self { keys })
    }
}

macro_rules! files {
    ($($code:literal)*) => {
        &[$(($code, include_str!(concat!("../../../languages/", $code, ".txt")))),*]
    };
}

/// Every language with its file.
pub(super) const FILES: &[(&str, &str)] = files!(
    "en" "ja" "zh" "es" "fr" "de" "pt" "it" "nl" "sv" "da" "no" "fi" "pl" "cs" "hu" "ru" "uk" "el" "tr" "id" "vi" "th" "fa"
    "ar" "hi" "ko"
);

/// All tables. A mistake in one is a programming error that the tests meet first.
pub(super) fn languages() -> &'static [Language] {
    static TABLE: LazyLock<Vec<Language>> = LazyLock::new(|| {
        let parse = |(code, file): &(&'static str, &'static str)| {
            Language::parse(code, file).unwrap_or_else(|e| panic!("built-in table: {e}"))
        };
        FILES.iter().map(parse).collect()
    });
    &TABLE
}

/// The words of all languages under `key`.
pub(crate) fn entries(key: &str) -> impl Iterator<Item = Entry> {
    languages().iter().flat_map(move |l| l.of(key).iter().copied())
}

/// The value of `word` under `key`; the first language that has it counts.
pub(crate) fn value(key: &'static str, word: &str) -> Option<&'static str> {
    type Values = HashMap<(&'static str, &'static str), &'static str>;
    static VALUES: LazyLock<Values> = LazyLock::new(|| {
        let mut all = Values::new();
        for (key, list) in languages().iter().flat_map(|l| &l.keys) {
            for entry in list.iter().filter(|e| !e.value.is_empty()) {
                all.entry((key, entry.phrase)).or_insert(entry.value);
            }
        }
        all
    });
    VALUES.get(&(key, word)).copied()
}
