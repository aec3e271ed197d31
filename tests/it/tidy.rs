//! Rules of the repository that no compiler checks.
use rlvr::config::RunConfig;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const MAX_LINES: usize = 800;
/// Of the file that a reader begins with.
const MAX_LINES_OF_A_STEP: usize = 250;
/// The directories of the root; those whose name begins with a dot are free.
const DIRECTORIES: [&str; 8] =
    ["docs", "examples", "policies", "python", "rewards", "rl", "rollout", "tests"];
/// What building and running leaves there.
const OUTPUTS: [&str; 2] = ["target", "runs"];
const CRATES: [&str; 4] = ["policies", "rewards", "rl", "rollout"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

fn entries(dir: &Path) -> Vec<(String, bool)> {
    let entry = |e: std::io::Result<std::fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().to_string_lossy().into_owned(), e.file_type().unwrap().is_dir())
    };
    let mut all: Vec<_> = std::fs::read_dir(root().join(dir)).unwrap().map(entry).collect();
    all.sort();
    all
}

/// Every Rust file with its path from the root.
pub fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for (name, is_dir) in entries(dir) {
            let path = dir.join(&name);
            if is_dir {
                walk(&path, found);
            } else if name.ends_with(".rs") {
                let text = read(&path);
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    DIRECTORIES.iter().for_each(|dir| walk(Path::new(dir), &mut found));
    assert!(found.len() > 100, "{} Rust files", found.len());
    found
}

/// The part of a source file that is not tests: without the items that `#[cfg(test)]` stands at.
pub fn without_tests(path: &Path, text: &str) -> String {
    // Modules that their parents include for tests only.
    let stem = path.file_stem().unwrap_or_default();
    if ["tests", "golden", "gradient", "fixtures"].iter().any(|name| stem == *name) {
        return String::new();
    }
    let mut lines = text.lines();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            let indent = &line[..line.len() - line.trim_start().len()];
            // To the end of the item, which rustfmt puts as far to the left as its beginning.
            lines.find(|line| ends_item(line, indent));
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Whether an item that begins behind `indent` ends with this line.
pub fn ends_item(line: &str, indent: &str) -> bool {
    let Some(rest) = line.strip_prefix(indent) else { return false };
    let is_attribute = rest.starts_with("#[");
    rest == "}"
        || !rest.starts_with([' ', ')']) && !is_attribute && (rest.ends_with(';') || rest.ends_with('}'))
}

/// Names of the packages that `[section]` of a crate's manifest lists.
fn dependencies(name: &str, section: &str) -> BTreeSet<String> {
    let manifest: toml::Table = read(format!("{name}/Cargo.toml")).parse().unwrap();
    manifest.get(section).and_then(|s| s.as_table()).map(|s| s.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn crates_depend_in_one_direction() {
    let forbidden: [(&str, &[&str]); 3] = [
        ("rewards", &["rlvr", "rlvr-policies", "rlvr-rollout", "safetensors", "tokenizers"]),
        ("rollout", &["rlvr", "rlvr-rewards"]),
        ("policies", &["rlvr", "rlvr-rewards", "rlvr-rollout"]),
    ];
    for (name, forbidden) in forbidden {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for found in dependencies(name, section) {
                assert!(!forbidden.contains(&found.as_str()), "{name} depends on {found}");
                assert!(name != "rewards" || !found.starts_with("burn"), "rewards depend on {found}");
            }
        }
    }
    for app_only in ["anyhow", "clap", "tensorboard-rs"] {
        for name in ["policies", "rewards", "rollout"] {
            assert!(!dependencies(name, "dependencies").contains(app_only), "{name} depends on {app_only}");
        }
    }
}

/// The Python module stands beside the workspace; it has the workspace's version and judges with the same code.
#[test]
fn the_python_module_is_of_the_same_version_and_of_the_same_crates() {
    let parse = |path: &str| read(path).parse::<toml::Table>().unwrap();
    let (ours, theirs) = (parse("Cargo.toml"), parse("python/Cargo.toml"));
    for key in ["version", "rust-version", "edition"] {
        assert_eq!(ours["workspace"]["package"][key], theirs["package"][key], "{key} of python/Cargo.toml");
    }
    let locked = |path: &str| -> BTreeSet<(String, String)> {
        let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
        let packages = parse(path)["package"].as_array().unwrap().clone();
        packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
    };
    let (ours, theirs) = (locked("Cargo.lock"), locked("python/Cargo.lock"));
    let shared: BTreeSet<&str> = ours.iter().map(|(name, _)| name.as_str()).collect();
    for package in theirs.iter().filter(|(name, _)| shared.contains(name.as_str())) {
        assert!(ours.contains(package), "python/Cargo.lock has {package:?}; Cargo.lock has another version");
    }
}

#[test]
fn only_the_binary_prints_and_only_the_log_knows_tensorboard() {
    for (path, text) in sources() {
        let in_library = CRATES.iter().any(|name| path.starts_with(format!("{name}/src")));
        if !in_library {
            continue;
        }
        let code = without_tests(&path, &text);
        if !path.starts_with("rl/src/bin") {
            for forbidden in ["anyhow", "println!", "print!(", "process::exit"] {
                assert!(!code.contains(forbidden), "{}: {forbidden}", path.display());
            }
        }
        if path != Path::new("rl/src/run/log.rs") {
            assert!(!code.contains("tensorboard_rs"), "{}: tensorboard_rs", path.display());
        }
    }
}

#[test]
fn one_module_opens_connections() {
    for (path, text) in sources() {
        let in_crate = CRATES.iter().any(|name| path.starts_with(format!("{name}/src")));
        // Beside the door to the network: ranks of a run, which talk to each other only.
        let doors = ["policies/src/http", "rl/src/parallel/tcp"];
        if in_crate && !doors.iter().any(|door| path.starts_with(door)) {
            for forbidden in ["ureq", "TcpStream::connect"] {
                let code = without_tests(&path, &text);
                assert!(!code.contains(forbidden), "{}: {forbidden}", path.display());
            }
        }
    }
}

#[test]
fn one_module_generates_and_one_learns() {
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("rl/src")) {
        let code = without_tests(&path, &text);
        for (call, home) in [
            ("BatchedEngine::new", "rl/src/generate.rs"),
            // For those who come and go while others are served.
            (" Batch::new(", "rl/src/serve/engine.rs"),
            ("decoder.forward(", "rl/src/train/learner.rs"),
        ] {
            assert_eq!(code.contains(call), path == Path::new(home), "{}: {call}", path.display());
        }
    }
}

#[test]
fn tests_are_told_from_code() {
    let text = "a();\n#[cfg(test)]\nmod tests;\nb();\n#[cfg(test)]\n#[allow(x)]\nfn helper(\n    n: usize,\n) -> usize {\n    \
                n;\n}\nimpl A {\n    #[cfg(test)]\n    pub fn of() {}\n    c();\n}\n#[cfg(test)]\nmod more {\n    d();\n}\ne();";
    let left = without_tests(Path::new("x.rs"), text);
    assert_eq!(left, "a();\nb();\nimpl A {\n    c();\n}\ne();");
    for (path, text) in sources() {
        let shown = path.display();
        let code = without_tests(&path, &text);
        // What stands behind tests that are a file of their own is code.
        let last = text.rfind("#[cfg(test)]\nmod tests;\n").map(|at| &text[at..]);
        let behind = last.and_then(|rest| rest.lines().find(|line| line.starts_with("pub ")));
        assert!(behind.is_none_or(|line| code.contains(line)), "{shown}");
    }
}

#[test]
fn files_are_short_and_finished() {
    let marks = ["TO", "FIX"].map(|start| start.to_owned() + if start == "TO" { "DO" } else { "ME" });
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    for (path, text) in sources() {
        let lines = text.lines().count();
        let most = if path == Path::new("rl/src/train/grpo.rs") { MAX_LINES_OF_A_STEP } else { MAX_LINES };
        assert!(lines <= most, "{}: {lines} lines", path.display());
        for mark in marks.iter().chain(&macros) {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn the_root_has_only_the_known_directories() {
    for (name, is_dir) in entries(Path::new("")) {
        let known = name.starts_with('.') || DIRECTORIES.contains(&&*name) || OUTPUTS.contains(&&*name);
        assert!(!is_dir || known, "directory {name}");
    }
}

#[test]
fn every_example_loads_and_is_listed() {
    let readme = read("README.md");
    let mut configs = 0;
    for (name, is_dir) in entries(Path::new("examples")) {
        let path = Path::new("examples").join(&name);
        assert!(
            readme.contains(&format!("examples/{name}")),
            "README.md does not mention {}",
            path.display()
        );
        if is_dir {
            let config = RunConfig::load(&root().join(&path).join("config.toml"), &[]);
            if name == "wasm" && !cfg!(feature = "wasm") {
                let error = config.unwrap_err().to_string();
                assert!(error.contains("build it with `--features wasm`"), "{error}");
                continue;
            }
            let config = config.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(config.name, name, "the name of the run is that of its directory");
            configs += 1;
            for (file, _) in entries(&path).into_iter().filter(|(file, _)| file.ends_with(".toml")) {
                RunConfig::load(&root().join(&path).join(&file), &[]).unwrap_or_else(|e| panic!("{e}"));
            }
        }
    }
    assert!(configs > 0);
}

#[test]
fn the_readme_keeps_its_promises() {
    let readme = read("README.md");
    let table = rlvr::metrics::markdown_table();
    assert!(readme.contains(&table), "the table of metrics in README.md is not this one:\n{table}");
    for kind in rlvr::rewards::config::KINDS {
        assert!(readme.contains(&format!("`{kind}`")), "README.md does not explain the reward {kind}");
    }
    for command in
        ["cargo run --release -- train examples/addition/config.toml", "cargo test --release --workspace"]
    {
        assert!(readme.lines().any(|line| line == command), "README.md has no line {command:?}");
    }
    let config = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    RunConfig::parse(config, Path::new("README.md"), &[]).unwrap();
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "EXPERIMENTS.md",
        "docs/python.md",
        "examples/addition/README.md",
        "examples/medical/README.md",
        "examples/pneumonia/README.md",
        "examples/shapes/README.md",
    ] {
        let (text, dir) = (read(document), Path::new(document).parent().unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || file.is_empty();
            assert!(outside || root().join(dir).join(file).exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn every_invariant_has_its_tests() {
    let architecture = read("ARCHITECTURE.md");
    let table =
        architecture.split("## Invariants").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let all: String = sources().into_iter().map(|(_, text)| text).collect();
    let mut tests = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let column = row.rsplit(" | ").next().unwrap();
        // Names of tests are sentences; files, modules and metrics have fewer words.
        let words = column.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.matches('_').count() >= 2) {
            assert!(all.contains(&format!("fn {name}(")), "there is no test {name}");
            tests += 1;
        }
    }
    assert!(tests > 30, "{tests} tests");
}
