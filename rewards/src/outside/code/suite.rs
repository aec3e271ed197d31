//! The tests of a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Language;
use crate::answer::text::{self, fixed};

/// Tests of one task.
const MAX_TESTS: usize = 10_000;
/// Bytes of a test in which names are looked for.
const TEXT_BYTES: usize = 16 * 1024;

/// One test of a program that reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IoTest {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) args: Vec<String>,
    pub(super) files: BTreeMap<String, String>,
    /// For shells: run after the script is loaded.
    pub(super) command: Option<String>,
}

/// One test that the judge runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum JudgeTest {
    /// Statements.
    Code { code: String },
    /// A call of the entry point.
    Call { args: Vec<Value>, want: Value },
}

/// What the judge is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct JudgeSuite {
    pub(super) entry_point: Option<String>,
    pub(super) setup: String,
    pub(super) test_setup: String,
    pub(super) tests: Vec<JudgeTest>,
    /// The reference's own code: it says which names the candidate defines.
    pub(super) solution: Option<String>,
    #[serde(skip)]
    name: &'static str,
}

/// The tests of a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Suite {
    Io(Vec<IoTest>),
    Judge(JudgeSuite),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    #[serde(default)]
    input: Value,
    output: Value,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    command: Option<String>,
}

/// The fields of the reference that this reward reads; it may have others.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    tests: Vec<RawTest>,
    #[serde(default)]
    asserts: Vec<String>,
    #[serde(default)]
    test_code: Option<String>,
    #[serde(default)]
    entry_point: Option<String>,
    #[serde(default)]
    setup: String,
    #[serde(default)]
    test_setup: String,
    #[serde(default)]
    solution: Value,
}

impl Suite {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(reference: &Value, language: Language) -> Result<Self, String> {
        if !reference.is_object() {
            return Err("needs an object with tests, asserts or test_code".into());
        }
        let raw = Raw::deserialize(reference).map_err(|e| e.to_string())?;
        let kinds = [!raw.tests.is_empty(), !raw.asserts.is_empty(), raw.test_code.is_some()];
        match kinds.iter().filter(|k| **k).count() {
            0 => return Err("has none of tests, asserts and test_code".into()),
            1 => {}
            _ => return Err("has several of tests, asserts and test_code".into()),
        }
        if raw.tests.len().max(raw.asserts.len()) > MAX_TESTS {
            return Err(format!("more than {MAX_TESTS} tests"));
        }
        if language != Language::Python {
            return Self::shell(raw);
        }
        let calls = raw.entry_point.is_some() && raw.tests.iter().any(|t| t.input.is_array());
        if !raw.tests.is_empty() && !calls {
            if raw.tests.iter().any(|t| t.command.is_some()) {
                return Err("command is for shells".into());
            }
            return raw.tests.into_iter().map(io).collect::<Result<_, _>>().map(Self::Io);
        }
        let (tests, name) = if let Some(code) = raw.test_code {
            if code.trim().is_empty() {
                return Err("test_code is empty".into());
            }
            (vec![JudgeTest::Code { code }], "test_code")
        } else if calls {
            let call = |t: RawTest| match t.input {
                Value::Array(args) => Ok(JudgeTest::Call { args, want: t.output }),
                _ => Err("with an entry_point every input is a list of arguments".to_string()),
            };
            (raw.tests.into_iter().map(call).collect::<Result<_, _>>()?, "calls")
        } else {
            (raw.asserts.into_iter().map(|code| JudgeTest::Code { code }).collect(), "asserts")
        };
        let (entry_point, setup, test_setup) = (raw.entry_point, raw.setup, raw.test_setup);
        let solution = raw.solution.as_str().map(String::from);
        Ok(Self::Judge(JudgeSuite { entry_point, setup, test_setup, tests, solution, name }))
    }

    fn shell(raw: Raw) -> Result<Self, String> {
        if raw.test_code.is_some() {
            return Err("test_code is for Python; use tests with a command".into());
        }
        if !raw.asserts.is_empty() {
            return raw.asserts.iter().map(|a| shell_assert(a)).collect::<Result<_, _>>().map(Self::Io);
        }
        raw.tests.into_iter().map(io).collect::<Result<_, _>>().map(Self::Io)
    }

    /// The names that the tests call; those that the candidate does not define say nothing.
    pub(super) fn names(&self) -> Vec<String> {
        static CALLED: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?:^|[^.\w])([A-Za-z_]\w*)[ \t]*\("));
        static WORD: LazyLock<Regex> = LazyLock::new(|| fixed(r"([A-Za-z_][\w-]*)"));
        static DEFINED: LazyLock<Regex> =
            LazyLock::new(|| fixed(r"\b(?:def|class)[ \t]+([A-Za-z_]\w*)|\bas[ \t]+([A-Za-z_]\w*)"));
        let words = |pattern: &Regex, text: &str| -> BTreeSet<String> {
            (pattern.captures_iter(text::head(text, TEXT_BYTES)))
                .filter_map(|c| c.iter().skip(1).flatten().next().map(|m| m.as_str().to_string()))
                .collect()
        };
        let mut names = BTreeSet::new();
        match self {
            // `Solution().add` is defined by who defines `Solution`.
            Self::Judge(JudgeSuite { entry_point: Some(name), .. }) => {
                names.extend(words(&WORD, name).into_iter().find(|word| name.trim_start().starts_with(word)));
            }
            Self::Judge(suite) => {
                let code = |test: &JudgeTest| match test {
                    JudgeTest::Code { code } => Some(code.clone()),
                    JudgeTest::Call { .. } => None,
                };
                let list: Vec<String> = suite.tests.iter().take(64).filter_map(code).collect();
                let defined: BTreeSet<String> =
                    list.iter().chain([&suite.test_setup]).flat_map(|code| words(&DEFINED, code)).collect();
                names.extend(list.iter().flat_map(|code| words(&CALLED, code)));
                names.retain(|name| !defined.contains(name));
            }
            Self::Io(tests) => {
                let commands = tests.iter().take(64).filter_map(|t| t.command.as_ref());
                names.extend(commands.flat_map(|command| words(&WORD, command)));
            }
        }
        names.into_iter().collect()
    }

    /// Name of the style in [`crate::Outcome::method`].
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Io(_) => "tests",
            Self::Judge(suite) => suite.name,
        }
    }
}

fn io(test: RawTest) -> Result<IoTest, String> {
    let text = |value: Value, what: &str| match value {
        Value::Null if what == "input" => Ok(String::new()),
        Value::String(s) => Ok(s),
        Value::Number(n) => Ok(n.to_string()),
        Value::Array(lines) if lines.iter().all(Value::is_string) => {
            Ok(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
        }
        _ => Err(format!("{what} of a test must be a string or a list of lines")),
    };
    for name in test.files.keys() {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !plain || name.starts_with("solution.") {
            return Err(format!("file name {name:?} is not allowed"));
        }
    }
    if test.args.iter().chain(&test.command).any(|a| a.contains('\0')) {
        return Err("an argument holds a zero byte".into());
    }
    Ok(IoTest {
        input: text(test.input, "input")?,
        output: text(test.output, "output")?,
        args: test.args,
        files: test.files,
        command: test.command,
    })
}

/// `[ "$(COMMAND)" = "TEXT" ]`, also with `test`, `[[`, `==`, single quotes, or no quotes around the text: a command and
/// its output, so that the expected text stays out of the shell.
fn shell_assert(assertion: &str) -> Result<IoTest, String> {
    let split = || {
        let body = assertion.trim().trim_start_matches("assert ").trim();
        let body = (body.strip_prefix("[[").and_then(|b| b.strip_suffix("]]")))
            .or_else(|| body.strip_prefix('[').and_then(|b| b.strip_suffix(']')))
            .or_else(|| body.strip_prefix("test "))?;
        let (left, right) = ["\" = ", "\" == "].iter().find_map(|op| body.rsplit_once(op))?;
        let command = left.trim().strip_prefix("\"$(")?.strip_suffix(')')?;
        let right = right.trim();
        let quoted = |q| right.strip_prefix(q).and_then(|r: &str| r.strip_suffix(q));
        let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(right);
        let plain = !text.contains(['"', '\'', '$', '`', '\\']) && (text != right || !text.contains(' '));
        (plain && !command.contains('\0')).then(|| (command.trim().to_string(), text.to_string()))
    };
    let (command, output) = split().ok_or_else(|| {
        format!("assertion {assertion:?} is not of the form [ \"$(COMMAND)\" = \"TEXT\" ]; write a test with command and output")
    })?;
    Ok(IoTest {
        input: String::new(),
        output,
        args: Vec::new(),
        files: BTreeMap::new(),
        command: Some(command),
    })
}
