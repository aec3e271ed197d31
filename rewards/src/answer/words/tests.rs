use super::table::{FILES, Language, PATTERN};
use super::*;

/// Whether an entry of a key is well formed.
type Check = fn(&str) -> bool;

/// Every key with what its values must be.
const KEYS: &[(&str, Check)] = &[
    ("answer", str::is_empty),
    ("result", str::is_empty),
    ("final", str::is_empty),
    ("link", str::is_empty),
    ("option", str::is_empty),
    ("soft", str::is_empty),
    ("article", str::is_empty),
    ("other", str::is_empty),
    ("still", str::is_empty),
    ("each", str::is_empty),
    ("fill", str::is_empty),
    ("than", str::is_empty),
    ("genitive", str::is_empty),
    ("inverts", str::is_empty),
    ("suffix", str::is_empty),
    ("among", str::is_empty),
    ("leading", str::is_empty),
    ("there", str::is_empty),
    ("none", str::is_empty),
    ("unsure", str::is_empty),
    ("abbreviation", str::is_empty),
    ("unit", str::is_empty),
    ("gives", str::is_empty),
    ("so", str::is_empty),
    ("indeed", str::is_empty),
    ("and", str::is_empty),
    ("or", str::is_empty),
    ("but", str::is_empty),
    ("not", str::is_empty),
    ("exclude", str::is_empty),
    ("hedge", str::is_empty),
    ("guess", str::is_empty),
    ("open", str::is_empty),
    ("because", str::is_empty),
    ("aside", str::is_empty),
    ("condition", str::is_empty),
    ("when", str::is_empty),
    ("assured", str::is_empty),
    ("supposed", str::is_empty),
    ("unreal", str::is_empty),
    ("asked", str::is_empty),
    ("perhaps", str::is_empty),
    ("that", str::is_empty),
    ("tempting", str::is_empty),
    ("doubt", str::is_empty),
    ("nobody", str::is_empty),
    ("remark", str::is_empty),
    ("retract", str::is_empty),
    ("unknown", str::is_empty),
    ("confirm", str::is_empty),
    ("instead", str::is_empty),
    ("correction", str::is_empty),
    ("wrong", str::is_empty),
    ("right", str::is_empty),
    ("copula", str::is_empty),
    ("circumstance", str::is_empty),
    ("bound", str::is_empty),
    ("find", str::is_empty),
    ("our", str::is_empty),
    ("lead", str::is_empty),
    ("after", str::is_empty),
    ("range", str::is_empty),
    ("deny", str::is_empty),
    ("several", str::is_empty),
    ("otherwise", str::is_empty),
    ("mild", str::is_empty),
    ("most", str::is_empty),
    ("common", str::is_empty),
    ("filler", str::is_empty),
    ("if", str::is_empty),
    ("inverted", str::is_empty),
    ("self", str::is_empty),
    ("concede", str::is_empty),
    ("crowd", str::is_empty),
    ("degree", str::is_empty),
    ("ending", str::is_empty),
    ("walk", str::is_empty),
    ("change", str::is_empty),
    ("concludes", str::is_empty),
    ("rejects", str::is_empty),
    ("chooses", str::is_empty),
    ("points", str::is_empty),
    ("therefore", str::is_empty),
    ("weakly", str::is_empty),
    ("clause", str::is_empty),
    ("denied", str::is_empty),
    ("label", str::is_empty),
    ("say", str::is_empty),
    ("follows", str::is_empty),
    ("ordinal", is_count),
    ("yes", str::is_empty),
    ("no", str::is_empty),
    ("maybe", str::is_empty),
    ("number", is_count),
    ("magnitude", is_count),
    ("denominator", is_count),
    ("minus", str::is_empty),
    ("short", str::is_empty),
    ("behind", is_change),
    ("between", is_sign),
    ("counter", str::is_empty),
    ("decimal", str::is_empty),
];

/// What a language cannot do without.
const REQUIRED: &[&str] = &[
    "answer",
    "final",
    "link",
    "option",
    "and",
    "or",
    "but",
    "not",
    "hedge",
    "open",
    "because",
    "condition",
    "retract",
    "correction",
    "wrong",
    "yes",
    "no",
    "maybe",
];

fn is_count(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())
}

/// `^2`, `/1000`, `+1/2`, `!`, `%`, or `?` for what is not worked out.
fn is_change(value: &str) -> bool {
    let mut rest = value.chars();
    match rest.next() {
        Some('^' | '*' | '/' | '+') => rest.as_str().split('/').all(is_count),
        Some('!' | '%' | '?') => rest.as_str().is_empty(),
        _ => false,
    }
}

fn is_sign(value: &str) -> bool {
    matches!(value, "+" | "-" | "*" | "/" | "^" | "_" | "choose" | "root" | "of" | "?")
}

#[test]
fn every_file_has_known_keys_and_what_is_required() {
    for (code, file) in FILES {
        let language = Language::parse(code, file).unwrap();
        assert!(file.starts_with("# "), "{code}: the first line names the language");
        for (key, entries) in language.keys() {
            assert!(!entries.is_empty(), "{code}: {key} is empty");
            if key.starts_with(PATTERN) {
                continue;
            }
            let (_, is_value) =
                KEYS.iter().find(|(k, _)| *k == key).unwrap_or_else(|| panic!("{code}: {key}"));
            for e in entries {
                assert!(is_value(e.value), "{code}: {key}: {} = {}", e.phrase, e.value);
                let lower = e.phrase.to_lowercase();
                assert_eq!(e.phrase, lower, "{code}: {key}: phrases are lower case");
                assert!(Regex::new(&as_pattern(e.phrase)).is_ok(), "{code}: {key}: {}", e.phrase);
            }
        }
        for key in ["yes", "no", "maybe", "number", "magnitude", "denominator", "short", "minus"] {
            let plain = |e: &super::table::Entry| !e.phrase.contains(['*', '[', '(', '|']);
            assert!(language.of(key).iter().all(plain), "{code}: words of {key} are looked up as they stand");
        }
        for key in REQUIRED {
            assert!(!language.of(key).is_empty(), "{code}: {key} is missing");
        }
    }
}

#[test]
fn every_file_of_the_folder_is_compiled_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/languages");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap().trim_end_matches(".txt").to_string())
        .collect();
    found.sort();
    let mut known: Vec<&str> = FILES.iter().map(|(code, _)| *code).collect();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let wrong = |file: &'static str| Language::parse("xx", file).unwrap_err();
    assert_eq!(wrong("yes"), "xx, line 1: words without a key");
    assert_eq!(wrong("[yes]\nyes\n[yes]"), "xx, line 3: the key stands twice");
    assert_eq!(wrong("[yes]\nyes, yes"), "xx, line 2: yes stands twice");
}

#[test]
fn phrases_are_whole_words_of_any_script() {
    let no = Phrases::of(&["no", "not"]);
    for text in ["no", "No, it", "oh no.", "nicht", "это не так", "不是", "لا", "isn’t", "n'est  pas"]
    {
        assert!(no.hold(text), "{text}");
    }
    for text in ["know", "noël", "нет-нетто".trim_start_matches("нет-"), "nothing", "الا"] {
        assert!(!no.hold(text), "{text}");
    }
    assert_eq!(no.opening("not 42"), Some(3));
    assert_eq!(no.opening("42 not"), None);
    assert_eq!(no.closing("it is not"), Some(6));
}

#[test]
fn values() {
    assert_eq!(value("number", "seven"), Some("7"));
    assert_eq!(value("number", "sevens"), None);
    assert_eq!(value("ordinal", "segunda"), Some("2"));
}

#[test]
fn templates() {
    let re = pattern(r"(?i)^(?:{or})\s\d{1,2}$");
    assert!(re.is_match("oder 12"));
    assert!(!re.is_match("order 12"));
    let own = each_language(r"(?:{gives}) (?:{article?})", "none");
    assert!(Regex::new(&own).unwrap().is_match("gives the"));
}
