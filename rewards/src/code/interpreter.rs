//! The interpreter of a language: the first on the path that works inside the sandbox.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::Language;
use crate::sandbox::{End, Limits, Program, Sandbox, run};

/// An interpreter that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    path: PathBuf,
    readable: Vec<PathBuf>,
}

impl Interpreter {
    /// Finds `name` (`name` of the language when empty); cached for the life of the process.
    pub(super) fn find(sandbox: Sandbox, language: Language, name: &str) -> Result<Self, String> {
        type Found = HashMap<(Language, String), Result<Interpreter, String>>;
        static FOUND: LazyLock<Mutex<Found>> = LazyLock::new(Mutex::default);
        let name = match (name, language) {
            ("", Language::Python) => "python3",
            ("", Language::Bash) => "bash",
            ("", Language::Sh) => "sh",
            (name, _) => name,
        };
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (language, name.to_string());
        found.entry(key).or_insert_with(|| Self::search(sandbox, language, name)).clone()
    }

    fn search(sandbox: Sandbox, language: Language, name: &str) -> Result<Self, String> {
        let mut tried = Vec::new();
        for path in candidates(name) {
            let found = match language {
                Language::Python => python(&path),
                _ => path.canonicalize().ok().map(|path| Self { path, readable: Vec::new() }),
            };
            let Some(found) = found else {
                tried.push(format!("{} does not run", path.display()));
                continue;
            };
            match found.works(sandbox, language) {
                Ok(()) => return Ok(found),
                Err(why) => tried.push(format!("{}: {why}", found.path.display())),
            }
        }
        let tried = if tried.is_empty() { "it is not on the path".into() } else { tried.join("; ") };
        Err(format!("no {name} works in the sandbox ({tried}); set interpreter"))
    }

    fn works(&self, sandbox: Sandbox, language: Language) -> Result<(), String> {
        let script = match language {
            Language::Python => "print(6 * 7)",
            _ => "echo $((6 * 7))",
        };
        let limits = Limits {
            wall: Duration::from_secs(20),
            cpu_s: 20,
            memory: 512 << 20,
            processes: 8,
            file: 1 << 20,
            output: 1024,
        };
        let finished = run(&sandbox, &self.program(language, script, &[]), limits, &[], b"")
            .map_err(|e| e.to_string())?;
        match finished.end {
            End::Exit(0) if finished.stdout == b"42\n" => Ok(()),
            end => Err(format!("{end} {}", finished.stderr).trim().to_string()),
        }
    }

    /// The interpreter with a script of ours. Nothing is read from the user's site or environment.
    pub(super) fn program(&self, language: Language, script: &str, args: &[String]) -> Program {
        let mut all: Vec<String> = match language {
            Language::Python => ["-s", "-S", "-B", "-c", script].map(String::from).to_vec(),
            Language::Bash => ["--noprofile", "--norc", "-c", script, "bash"].map(String::from).to_vec(),
            Language::Sh => ["-c", script, "sh"].map(String::from).to_vec(),
        };
        all.extend_from_slice(args);
        Program {
            path: self.path.clone(),
            args: all,
            readable: self.readable.clone(),
            forks: language != Language::Python,
        }
    }
}

/// Where `name` may be: a path as it is, otherwise every match on the path.
fn candidates(name: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![PathBuf::from(name)];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = Vec::new();
    for dir in std::env::split_paths(&path).chain([PathBuf::from("/usr/bin"), PathBuf::from("/bin")]) {
        let file = dir.join(name);
        if file.is_file() && !found.contains(&file) {
            found.push(file);
        }
    }
    found
}

/// The interpreter behind a command that may be a wrapper script, and where its library is.
fn python(path: &Path) -> Option<Interpreter> {
    let script = "import sys\nprint(sys.executable, sys.base_prefix, sys.prefix, sep='\\n')";
    let output = Command::new(path).args(["-I", "-S", "-c", script]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let path = PathBuf::from(lines.next().filter(|l| l.starts_with('/'))?);
    let mut readable: Vec<PathBuf> =
        lines.map(PathBuf::from).filter(|p| p.components().count() > 1).collect();
    readable.dedup();
    Some(Interpreter { path, readable })
}
