//! Running the tests of a suite, a bounded number of responses at a time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::compare::same;
use super::interpreter::Interpreter;
use super::session;
use super::suite::{IoTest, Suite};
use super::{CodeConfig, Failure, Language, Tally};
use crate::outside::sandbox::{End, Isolation, Limits, Sandbox, run};

/// Runs the program of the candidate as the main program.
const RUN: &str = include_str!("run.py");

pub(super) struct Runner {
    language: Language,
    interpreter: String,
    limits: Limits,
    min_isolation: Isolation,
    partial: bool,
    tolerance: Option<f64>,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Runner {
    pub(super) fn new(config: &CodeConfig) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if config.workers == 0 { cores() } else { config.workers };
        let limits = Limits {
            wall: Duration::from_secs_f64(config.timeout_s),
            cpu_s: config.timeout_s.ceil() as u64,
            memory: config.memory_mib << 20,
            processes: config.processes,
            file: config.files_mib << 20,
            output: config.output_kib << 10,
        };
        Self {
            language: config.language,
            interpreter: config.interpreter.clone(),
            limits,
            min_isolation: config.min_isolation,
            partial: config.partial,
            tolerance: config.tolerance,
            free: Mutex::new(workers),
            freed: Condvar::new(),
        }
    }

    /// The sandbox and the interpreter, or why nothing is run.
    pub(super) fn ready(&self) -> Result<(Sandbox, Interpreter), String> {
        let sandbox = Sandbox::detect().map_err(|e| e.to_string())?;
        let (has, needs) = (sandbox.isolation(), self.min_isolation);
        if has < needs {
            return Err(format!(
                "this system isolates children at level {}, below min_isolation = \"{}\"; nothing is run",
                has.name(),
                needs.name()
            ));
        }
        // The probe has shown the level; nothing of it is left out for a lower minimum.
        let interpreter = Interpreter::find(sandbox, self.language, &self.interpreter)?;
        Ok((sandbox, interpreter))
    }

    pub(super) fn judge(&self, code: &str, suite: &Suite) -> Result<Tally, Failure> {
        let (sandbox, interpreter) = self.ready().map_err(Failure::Broken)?;
        let _turn = self.turn();
        match suite {
            Suite::Io(tests) => self.io(sandbox, &interpreter, code, tests),
            Suite::Judge(suite) => session::judge(&session::Setting {
                sandbox,
                interpreter: &interpreter,
                limits: self.limits,
                tolerance: self.tolerance,
                partial: self.partial,
                code,
                suite,
            }),
        }
    }

    fn turn(&self) -> Turn<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Turn(self)
    }

    fn io(
        &self,
        sandbox: Sandbox,
        interpreter: &Interpreter,
        code: &str,
        tests: &[IoTest],
    ) -> Result<Tally, Failure> {
        let mut tally = Tally { passed: 0, total: tests.len(), failure: None, together: None };
        let python = self.language == Language::Python;
        let name = if python { "solution.py" } else { "solution.sh" };
        for (i, test) in tests.iter().enumerate() {
            let script = match &test.command {
                _ if python => RUN.to_string(),
                None => format!(". ./{name}"),
                Some(command) => format!(". ./{name} </dev/null >/dev/null 2>&1\n{command}"),
            };
            let program = interpreter.program(self.language, &script, &test.args);
            let mut files: Vec<(&str, &[u8])> = vec![(name, code.as_bytes())];
            files.extend(test.files.iter().map(|(name, content)| (&**name, content.as_bytes())));
            let finished = run(&sandbox, &program, self.limits, &files, test.input.as_bytes())
                .map_err(|e| Failure::Broken(e.to_string()))?;
            // The status of a shell is that of its last command, often a search that found nothing.
            let normal = matches!(finished.end, End::Exit(status) if status == 0 || !python);
            let why = if !normal {
                let last = finished.stderr.lines().last().unwrap_or("").chars().take(200).collect::<String>();
                format!("{} {last}", finished.end).trim().to_string()
            } else {
                match std::str::from_utf8(&finished.stdout) {
                    Ok(text) if same(text, &test.output, self.tolerance) => {
                        tally.passed += 1;
                        continue;
                    }
                    Ok(_) => "another output".to_string(),
                    Err(_) => "output that is no text".to_string(),
                }
            };
            tally.failure.get_or_insert(format!("test {}: {why}", i + 1));
            if !self.partial {
                break;
            }
        }
        Ok(tally)
    }
}

/// The right to run children until dropped.
struct Turn<'a>(&'a Runner);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
