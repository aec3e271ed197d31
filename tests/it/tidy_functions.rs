//! Functions are short, and devices are known in their folder only.
use crate::tidy::{ends_item, sources};
use std::path::Path;

/// Longest function, in lines.
const MAX_LINES: usize = 80;

/// Longer ones, with the reason.
const LONG: [(&str, &str, &str); 15] = [
    ("policies/src/jinja/filters.rs", "filter", TABLE),
    ("policies/src/jinja/methods.rs", "of_string", TABLE),
    ("policies/src/jinja/sequences.rs", "list_filter", TABLE),
    ("policies/src/jinja/mod.rs", "whatever_a_template_does_is_bounded", CASES),
    ("policies/src/config/tests.rs", "errors_name_the_key", CASES),
    ("rewards/src/judges/instructions/mod.rs", "follows", TABLE),
    ("rewards/src/judges/instructions/mod.rs", "content_and_format", CASES),
    ("rewards/src/judges/language/mod.rs", "mixed_and_short_texts", CASES),
    ("rewards/src/judges/math/command.rs", "command", TABLE),
    ("rewards/src/judges/math/eval.rs", "call", TABLE),
    ("rewards/src/judges/math/token.rs", "step", LEXER),
    ("rewards/tests/schema_bounds.rs", "expensive", CASES),
    ("rewards/tests/support/hostile.rs", "inputs", CASES),
    ("rl/src/stats/tests.rs", "errors_of_the_first_kind", CASES),
    ("tests/it/curation.rs", "wrong_input_is_refused_with_file_line_and_hint", CASES),
];
/// A match with an arm a name.
const TABLE: &str = "table";
/// A match with an arm a kind of character.
const LEXER: &str = "lexer";
/// A test or its data: a list of cases.
const CASES: &str = "cases";

/// Files outside of the device folder that may ask which devices a build has: the one that picks the device, and tests that
/// need one.
const ASK_FOR_DEVICES: [&str; 3] = ["rl/src/device.rs", "policies/tests/device.rs", "tests/it/device.rs"];

/// Name and length of every function with a body, by rustfmt's indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let modifier = |word: &str| {
            ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&word) || word.starts_with("pub(")
        };
        if !before.split_whitespace().all(modifier) {
            continue;
        }
        // A declaration without a body, or a body in one line, ends where it begins.
        let ends = |line: &&str| line.ends_with(['{', ';', '}']);
        let open = i + lines[i..].iter().position(ends).unwrap_or(0);
        let close = match lines[open].ends_with('{') {
            true => lines[open + 1..].iter().position(|line| ends_item(line, indent)).map(|n| open + 1 + n),
            false => Some(open),
        };
        let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        found.push((name.to_owned(), close.unwrap_or(lines.len() - 1) - i + 1));
    }
    found
}

#[test]
fn functions_are_short() {
    let (mut seen, mut all) = (0, 0);
    for (path, text) in sources() {
        for (name, lines) in functions(&text) {
            all += 1;
            let listed = LONG.iter().any(|(file, long, _)| path == Path::new(file) && name == *long);
            assert!(lines <= MAX_LINES || listed, "{}: {name} has {lines} lines", path.display());
            seen += usize::from(listed && lines > MAX_LINES);
        }
    }
    assert!(all > 3000, "{all} functions");
    assert_eq!(seen, LONG.len(), "a function on the list is no longer long, or gone: take it off");
}

#[test]
fn functions_are_measured() {
    let text = "fn a() {}\n    pub(crate) fn b(\n        x: &str,\n    ) -> usize {\n        let c = |x| {\n            x\n        };\n    }\n\
                trait T {\n    fn d(&self);\n}\nconst fn e() {\n}\n// the fn f\n";
    let want = [("a", 1), ("b", 7), ("d", 1), ("e", 2)].map(|(name, lines)| (name.to_owned(), lines));
    assert_eq!(functions(text), want);
}

#[test]
fn devices_are_known_in_their_folder_only() {
    let marks = ["cuda", "wgpu"].map(|name| format!("feature = \"{name}\""));
    for (path, text) in sources() {
        let allowed = path.starts_with("policies/src/device")
            || ASK_FOR_DEVICES.iter().any(|file| path == Path::new(file));
        for mark in marks.iter().filter(|_| !allowed) {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}
