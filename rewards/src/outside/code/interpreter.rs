//! The interpreter of a language: the first on the path that works inside the sandbox.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::Language;
use crate::outside::sandbox::{End, Limits, Program, Sandbox, run};

/// An interpreter that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    path: PathBuf,
    /// Its own files and directories.
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
                _ => match path.canonicalize() {
                    Ok(path) => Ok(Self { readable: vec![path.clone()], path }),
                    Err(e) => Err(e.to_string()),
                },
            };
            match found.and_then(|found| found.works(sandbox, language).map(|()| found)) {
                Ok(found) => return Ok(found),
                Err(why) => tried.push(format!("{}: {why}", path.display())),
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

/// The interpreter behind a command that may be a wrapper script, and what of it has to be readable.
fn python(path: &Path) -> Result<Interpreter, String> {
    // Isolated and without `site`, the path is that of the standard library alone.
    let script = "import sys\nprint(sys.executable, sys.base_prefix, *sys.path, sep='\\n')";
    let output = Command::new(path).args(["-I", "-S", "-c", script]).stdin(Stdio::null()).output();
    let text = output.ok().and_then(|o| String::from_utf8(o.stdout).ok()).unwrap_or_default();
    let mut lines = text.lines().map(PathBuf::from).filter(|p| p.is_absolute());
    let (Some(executable), Some(prefix)) = (lines.next(), lines.next()) else {
        return Err("does not run".into());
    };
    // A link in a virtual environment leads to the interpreter that it was made of.
    let executable = executable.canonicalize().map_err(|e| e.to_string())?;
    let beside = executable.parent().map(Path::to_path_buf);
    let libraries = beside.into_iter().chain(["lib", "lib64"].map(|dir| prefix.join(dir)));
    let mut readable = own_directories(lines, std::env::var_os("HOME").map(PathBuf::from).as_deref())?;
    readable.extend(libraries.flat_map(|dir| shared_libraries(&dir)));
    readable.push(executable.clone());
    readable.sort();
    readable.dedup();
    // The system's own are readable anyway.
    readable.retain(|path| !path.starts_with("/usr"));
    Ok(Interpreter { path: executable, readable })
}

/// The directories of a standard library, none of which may be the home directory or hold it.
fn own_directories(
    paths: impl Iterator<Item = PathBuf>,
    home: Option<&Path>,
) -> Result<Vec<PathBuf>, String> {
    let home = home.map(|home| home.canonicalize().unwrap_or_else(|_| home.to_path_buf()));
    let whole = paths.filter_map(|path| path.canonicalize().ok());
    let too_much =
        |path: &Path| path.parent().is_none() || home.as_ref().is_some_and(|h| h.starts_with(path));
    let checked = whole.map(|path| match too_much(&path) {
        true => Err(format!(
            "its library is {} itself, and whatever else is there would be readable for the programs",
            path.display()
        )),
        false => Ok(path),
    });
    checked.collect()
}

/// The shared libraries that lie directly in a directory, whatever else is there.
fn shared_libraries(dir: &Path) -> Vec<PathBuf> {
    if dir.starts_with("/usr") {
        return Vec::new();
    }
    let library = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("lib") && (name.ends_with(".so") || name.contains(".so."))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let files = entries.filter(library).filter_map(|path| path.canonicalize().ok());
    files.filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_the_home_directory_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().canonicalize().unwrap();
        let library = own.join("lib/python3");
        std::fs::create_dir_all(&library).unwrap();
        let directories =
            |paths: &[&Path]| own_directories(paths.iter().map(|p| p.to_path_buf()), Some(home.path()));
        let missing = own.join("lib/python3.zip");
        assert_eq!(directories(&[&missing, &library]).unwrap(), std::slice::from_ref(&library));
        for wrong in [&*own, own.parent().unwrap(), Path::new("/"), &library.join("../..")] {
            let refused = directories(&[&library, wrong]).unwrap_err();
            assert!(refused.contains("would be readable"), "{wrong:?}: {refused}");
        }
    }

    #[test]
    fn of_a_directory_only_its_shared_libraries_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().canonicalize().unwrap();
        for name in ["libz.so.1.3", "secret.txt", "libnotes.md", "tool.so", "lib.so/inner"] {
            std::fs::create_dir_all(own.join(name).parent().unwrap()).unwrap();
            std::fs::write(own.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("libz.so.1.3", own.join("libz.so")).unwrap();
        let mut found = shared_libraries(dir.path());
        found.dedup();
        assert_eq!(found, [own.join("libz.so.1.3")]);
    }
}
