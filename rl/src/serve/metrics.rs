//! What a server counts, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of times, in seconds.
const BOUNDS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// How many times were how long.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Not cumulative; the last one is above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Times {
    pub(super) fn record(&self, time: Duration) {
        let at = BOUNDS.iter().position(|bound| time.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut count = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.microseconds.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
    }
}

/// Counters of a server.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Replies, by their path and status.
    replies: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(super) connections: AtomicUsize,
    /// Requests that wait or are being answered, as completions.
    pub(super) queued: AtomicUsize,
    /// Completions that are being decoded.
    pub(super) running: AtomicUsize,
    /// Completions that wait.
    pub(super) waiting: AtomicUsize,
    pub(super) cancelled: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) scored_tokens: AtomicU64,
    pub(super) completion_tokens: AtomicU64,
    pub(super) decode_steps: AtomicU64,
    /// To the first token.
    pub(super) first_token: Times,
    /// To the end of the reply.
    pub(super) whole: Times,
}

impl Metrics {
    pub(super) fn replied(&self, path: &'static str, status: u16) {
        *self.replies.lock().unwrap_or_else(PoisonError::into_inner).entry((path, status)).or_default() += 1;
    }

    /// The text format of Prometheus.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("# HELP rlvr_requests_total Replies by path and status.\n");
        text.push_str("# TYPE rlvr_requests_total counter\n");
        for ((path, status), count) in self.replies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "rlvr_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}");
        }
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        for (name, help, value) in [
            ("rlvr_connections", "Open connections.", &self.connections),
            ("rlvr_completions_queued", "Completions asked for and not delivered.", &self.queued),
            ("rlvr_completions_running", "Completions that are being decoded.", &self.running),
            ("rlvr_completions_waiting", "Completions that wait to be decoded.", &self.waiting),
        ] {
            one(name, "gauge", help, value.load(Relaxed) as u64);
        }
        for (name, help, value) in [
            ("rlvr_cancelled_total", "Requests whose client went away.", &self.cancelled),
            ("rlvr_prompt_tokens_total", "Prompt tokens fed to decode after.", &self.prompt_tokens),
            ("rlvr_scored_tokens_total", "Prompt tokens scored for echo.", &self.scored_tokens),
            ("rlvr_completion_tokens_total", "Tokens sampled.", &self.completion_tokens),
            ("rlvr_decode_steps_total", "Calls of the model after prefills.", &self.decode_steps),
        ] {
            one(name, "counter", help, value.load(Relaxed));
        }
        self.first_token.write(&mut text, "rlvr_first_token_seconds", "From request to first token.");
        self.whole.write(&mut text, "rlvr_request_seconds", "From request to the end of the reply.");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative() {
        let metrics = Metrics::default();
        for ms in [5, 20, 400_000] {
            metrics.whole.record(Duration::from_millis(ms));
        }
        metrics.replied("/health", 200);
        let text = metrics.text();
        for line in [
            "rlvr_request_seconds_bucket{le=\"0.01\"} 1",
            "rlvr_request_seconds_bucket{le=\"0.03\"} 2",
            "rlvr_request_seconds_bucket{le=\"300\"} 2",
            "rlvr_request_seconds_bucket{le=\"+Inf\"} 3",
            "rlvr_request_seconds_count 3",
            "rlvr_request_seconds_sum 400.025",
            "rlvr_requests_total{path=\"/health\",status=\"200\"} 1",
            "rlvr_completions_running 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
