//! What goes to stdout and stderr, and how a command fails.

use crate::input::BadInput;
use rlvr::conformance::ConformanceError;
use rlvr::files::destination::{Destination, ReaderGone};
use rlvr::files::source::SourceError;
use rlvr::results::ResultsError;
use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writes a line to stderr. A closed stderr never ends a run.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        if !crate::output::is_quiet() {
            let _ = writeln!(std::io::stderr().lock(), $($arg)*);
        }
    }};
}
pub(crate) use say;

/// Whether another rank of the run speaks for this one.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves stderr to another rank of the run, or not.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes a note to stderr.
pub fn note(text: String) {
    say!("note: {text}");
}

/// Stdout, whose reader may go before the end, as `head` does.
pub struct Stdout {
    lock: StdoutLock<'static>,
    /// Whether that is an error, so that nothing more is computed for nobody.
    ends: bool,
}

impl Stdout {
    fn heard<T>(&self, outcome: io::Result<T>, nobody: T) -> io::Result<T> {
        match outcome {
            Err(e) if e.kind() == ErrorKind::BrokenPipe && !self.ends => Ok(nobody),
            outcome => outcome.map_err(ReaderGone::mark),
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.lock.write(bytes);
        self.heard(written, bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.lock.flush();
        self.heard(flushed, ())
    }
}

/// Buffered stdout for data; flush it, so that errors are seen. When its reader has gone, the command ends quietly.
pub fn stdout() -> BufWriter<Stdout> {
    BufWriter::with_capacity(1 << 16, Stdout { lock: io::stdout().lock(), ends: true })
}

/// The same for what people read beside the exit code, which is found out whether they read to the end or not.
pub fn report() -> BufWriter<Stdout> {
    BufWriter::with_capacity(1 << 16, Stdout { lock: io::stdout().lock(), ends: false })
}

/// Where `--out` goes, stdout without one; refuses a file that exists, unless `force`. To be called before anything is
/// computed.
pub fn to(path: Option<&Path>, force: bool) -> anyhow::Result<Destination> {
    let free = path.map(|path| Destination::free(path, force)).transpose();
    Ok(free.map_err(rlvr::Error::from)?.unwrap_or(Destination::Stdout))
}

/// Writes finished output, all or nothing.
pub fn write(to: &Destination, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(to.write(bytes).map_err(rlvr::Error::from)?)
}

/// Prints an error with its causes and gives the exit code.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|e| e.downcast_ref().is_some_and(ReaderGone::is)) {
        // Whoever reads us has seen enough.
        return ExitCode::SUCCESS;
    }
    if error.chain().any(|e| matches!(e.downcast_ref(), Some(rlvr::Error::Interrupted))) {
        // Said already, with the way to go on.
        return ExitCode::from(exit_code(error));
    }
    say!("error: {}", text_of(error));
    ExitCode::from(exit_code(error))
}

/// An error with what caused it, in a sentence.
pub fn text_of(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

/// What the process ends with after an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let own = (cause.downcast_ref().map(rlvr::Error::exit_code))
            .or_else(|| cause.downcast_ref().map(ResultsError::exit_code))
            .or_else(|| cause.downcast_ref().map(SourceError::exit_code));
        if let Some(code) = own {
            return code;
        }
        if cause.is::<BadInput>()
            || cause.is::<ConformanceError>()
            || cause.is::<rlvr::config::ConfigError>()
            || cause.is::<rlvr::rewards::ConfigError>()
        {
            return 2;
        }
    }
    1
}

/// A table with aligned columns; cells that begin with a digit, sign or bracket stand to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let numeric = |column: usize| {
        let begins = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "+-[".contains(c));
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
        cells.clone().next().is_some() && cells.all(begins)
    };
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            let _ = if numeric(column) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A Markdown table.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(header.iter().map(|h| (*h).to_owned()).collect());
    text.push_str(&format!("|{}\n", "---|".repeat(header.len())));
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| cell.replace('|', "\\|")).collect()));
    }
    text
}

/// Text on one line without control characters, at most `limit` characters, the middle left out.
pub fn one_line(text: &str, limit: usize) -> String {
    let shown = printable(text).replace('\n', "\\n").replace('\t', "\\t");
    let count = shown.chars().count();
    if count <= limit {
        return shown;
    }
    let half = limit.saturating_sub(3) / 2;
    let head: String = shown.chars().take(half).collect();
    let tail: String = shown.chars().skip(count - half).collect();
    format!("{head} … {tail}")
}

/// Text that cannot steer a terminal: control characters other than newline and tab are escaped.
pub fn printable(text: &str) -> String {
    let steers =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A duration for people.
pub fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match whole {
        0 => format!("{:.0} ms", 1e3 * seconds.max(0.0)),
        1..=9 => format!("{seconds:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `n thing` or `n things`.
pub fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// Prints a table on stdout.
pub fn print_table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut out = report();
    out.write_all(table(header, rows).as_bytes())?;
    Ok(out.flush()?)
}
