//! SIGINT and SIGTERM, and the command that goes on afterwards.

use crate::output::say;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the first SIGINT or SIGTERM sets; the second ends the process. `unit` is what is still finished: "this
/// step".
pub fn stop_on_signal(unit: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("catching signals")?;
    let handle = signals.handle();
    let stopping = Arc::clone(&stop);
    let wait = move || {
        for _ in signals.forever() {
            if stopping.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            say!("\nstopping after {unit}; press Ctrl-C again to stop at once and lose it");
        }
    };
    if std::thread::Builder::new().name("signals".into()).spawn(wait).is_err() {
        // Where no thread can be started, the same without the sentence.
        handle.close();
        for signal in [SIGINT, SIGTERM] {
            let second = flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
            second.and_then(|_| flag::register(signal, Arc::clone(&stop))).context("catching signals")?;
        }
    }
    Ok(stop)
}

/// The command that continues this one: without --force, which would start over, and with `more` at its end.
pub fn command_to_go_on(more: Option<&str>) -> String {
    let args = std::env::args().filter(|arg| arg != "--force" && Some(arg.as_str()) != more);
    shell_words(args.chain(more.map(str::to_owned)))
}

/// Words as a shell reads them.
pub fn shell_words(words: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@".contains(c);
    let quoted = |word: String| match word.chars().all(plain) && !word.is_empty() {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}
