//! Progress of a curation step, shown on a terminal only.

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use rlvr::curate::scan::Watch;
use std::io::IsTerminal;
use std::sync::Mutex;

/// A bar for each pass over a file.
pub struct Bar {
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
}

impl Bar {
    pub fn new() -> Self {
        Self { bar: Mutex::new(None), terminal: std::io::stderr().is_terminal() }
    }

    fn set(&self, bar: Option<ProgressBar>) {
        if let Ok(mut current) = self.bar.lock()
            && let Some(old) = std::mem::replace(&mut *current, bar)
        {
            old.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.set(None);
    }
}

impl Watch for Bar {
    fn pass(&self, what: &str, total: u64) {
        if !self.terminal {
            return;
        }
        let bar = ProgressBar::new(total).with_prefix(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {percent}%  {msg}  ETA {eta}") {
            bar.set_style(style);
        }
        if total > 1 << 16 {
            bar.set_message(HumanBytes(total).to_string());
        }
        self.set(Some(bar));
    }

    fn advance(&self, done: u64) {
        if let Ok(bar) = self.bar.lock()
            && let Some(bar) = &*bar
        {
            bar.inc(done);
        }
    }
}
