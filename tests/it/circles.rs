//! Modules of a crate import each other in one direction.
use crate::tidy::{sources, without_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The sources of a crate, or of the binary; its root file; what below does not belong to it.
const TREES: [(&str, &str, &str); 5] = [
    ("rewards/src", "lib.rs", "-"),
    ("policies/src", "lib.rs", "-"),
    ("rollout/src", "lib.rs", "-"),
    ("rl/src", "lib.rs", "bin"),
    ("rl/src/bin/rlvr", "main.rs", "-"),
];

/// Names that follow `crate::`, those of a list in braces too.
fn named(code: &str) -> Vec<String> {
    let first = |text: &str| {
        text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned)
    };
    let mut names = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.extend(first(rest));
            continue;
        };
        let (mut depth, mut begin) = (1, 0);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && c == ',' {
                names.extend(first(&list[begin..i]));
                begin = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

/// Code without comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What the root file gives another name: `pub use module::{Name}`.
fn re_exported(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, start) in root.match_indices("pub use ") {
        let path = root[at + start.len()..].split(';').next().unwrap_or_default();
        let Some((module, names)) = path.split_once("::") else { continue };
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|n| !n.is_empty()) {
            found.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    found
}

#[test]
fn modules_import_in_one_direction() {
    let all = sources();
    for (tree, root, without) in TREES {
        let root_text = &all.iter().find(|(path, _)| *path == Path::new(tree).join(root)).expect(tree).1;
        let aliases = re_exported(root_text);
        let module = |path: &Path| {
            let first =
                path.strip_prefix(tree).ok()?.components().next()?.as_os_str().to_string_lossy().into_owned();
            let first = first.trim_end_matches(".rs").to_owned();
            (first != without && first != "lib" && first != "main").then_some(first)
        };
        let modules: BTreeSet<String> = all.iter().filter_map(|(path, _)| module(path)).collect();
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in &all {
            let Some(from) = module(path) else { continue };
            for name in named(&code(&without_tests(path, text))) {
                let to = if modules.contains(&name) { Some(&name) } else { aliases.get(&name) };
                if let Some(to) = to.filter(|to| **to != from) {
                    imports.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        assert!(imports.len() * 2 > modules.len(), "{tree}: {imports:?}");
        for start in &modules {
            let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
            while let Some(at) = open.pop() {
                for next in imports.get(at).into_iter().flatten() {
                    assert!(
                        next != start,
                        "{tree}: {start} and {at} import each other, perhaps through others"
                    );
                    if reached.insert(next) {
                        open.push(next);
                    }
                }
            }
        }
    }
}

#[test]
fn imports_are_found() {
    let text = "use crate::a::B;\nuse crate::{c, d::{E, F}, g};\n// crate::h\nlet x = crate::i::j();";
    assert_eq!(named(&code(text)), ["a", "c", "d", "g", "i"]);
    let root = "pub use a::{B, c};\npub use d::E;";
    assert_eq!(re_exported(root).get("c").map(String::as_str), Some("a"));
    assert_eq!(re_exported(root).len(), 3);
}
