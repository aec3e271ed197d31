//! SIGINT, SIGTERM, SIGHUP and SIGQUIT: what they end, and the command that goes on afterwards.

use crate::output::say;
use anyhow::{Context, Result};
use rlvr::rewards::children;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

/// What a command finishes when it is asked to end, and its flag.
static FINISHES: Mutex<Option<(Arc<AtomicBool>, &'static str)>> = Mutex::new(None);
static WATCHED: OnceLock<Handle> = OnceLock::new();

/// Waits for signals on a thread of its own, so that no program or plugin that a reward has started, and nothing that it
/// has written, is left behind by a command that a signal ends. Where the system allows no further thread, signals end
/// this process at once.
pub fn watch() {
    let (ready, is_ready) = mpsc::channel();
    let wait = move || {
        let ends = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
        let Ok(mut signals) = Signals::new(ends.into_iter().filter(|s| !is_ignored(*s))) else {
            return;
        };
        let _ = WATCHED.set(signals.handle());
        drop(ready);
        for signal in signals.forever() {
            take(signal);
        }
    };
    match std::thread::Builder::new().name("signals".into()).spawn(wait) {
        // Until the other end is dropped, when signals are caught.
        Ok(_) => drop(is_ready.recv() as Result<(), _>),
        Err(e) => tracing::warn!("no thread for signals: {e}"),
    }
}

fn take(signal: i32) {
    let finishes = FINISHES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match finishes {
        Some((flag, unit)) if !flag.swap(true, Ordering::SeqCst) => {
            say!("\nstopping after {unit}; press Ctrl-C again to stop at once and lose it");
        }
        Some(_) => {
            children::end_all();
            std::process::exit(130);
        }
        None => {
            children::end_all();
            let _ = emulate_default_handler(signal);
        }
    }
}

/// Whether whoever started this process wants it to go on at this signal, as `nohup` does.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A flag that the first of these signals sets; the second ends the process. `unit` is what is still finished: "this
/// step".
pub fn stop_on_signal(unit: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    *FINISHES.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&stop), unit));
    let watched = WATCHED.get();
    // Also where they were ignored: in the background of a script.
    for signal in [SIGINT, SIGTERM, SIGQUIT] {
        match watched {
            Some(watched) => watched.add_signal(signal).context("catching signals")?,
            // Without a thread that waits: the same without the sentence.
            None => {
                let second = flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
                second.and_then(|_| flag::register(signal, Arc::clone(&stop))).context("catching signals")?;
            }
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
