//! Shows a run while it runs: a live line on a terminal, one line a step elsewhere.

use crate::output::{count, duration, one_line, say};
use indicatif::{ProgressBar, ProgressStyle};
use rlvr::eval::EvalResult;
use rlvr::metrics::{self, MetricsRow};
use rlvr::number::fixed;
use rlvr::number::interval;
use rlvr::rewards::Outcome;
use rlvr::run::events::{Event, Observer};
use rlvr::run::preflight::PreflightReport;
use serde_json::json;
use std::io::IsTerminal;
use std::time::Instant;

/// Characters of a prompt or completion that are shown.
const EXAMPLE: usize = 400;
/// Weight of the newest step in the estimate of the time left.
const NEWEST: f64 = 0.2;

pub struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
    stage: String,
    last: Instant,
    mean_s: Option<f64>,
    state: String,
    problems: usize,
    /// Index of the stage.
    index: usize,
}

impl Progress {
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            terminal,
            bar: None,
            stage: String::new(),
            last: Instant::now(),
            mean_s: None,
            state: String::new(),
            problems: 0,
            index: 0,
        }
    }

    /// Leaves the last state of the live line on the screen.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            say!("{} {}/{}  {}", self.stage, bar.position(), bar.length().unwrap_or(0), self.state);
        }
    }

    /// Warnings and problems that the pre-flight found so far; of later stages none count, as a policy is looked at that they
    /// will not get.
    pub fn problems(&self) -> usize {
        self.problems
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    fn stage(&mut self, index: usize, total: usize, name: &str, done: u64, steps: u64) {
        self.index = index;
        self.finish();
        let resumed = if done > 0 { format!(", {done} of them done") } else { String::new() };
        self.line(&format!("stage {} of {total}: {name}, {steps} steps{resumed}", index + 1));
        name.clone_into(&mut self.stage);
        self.state.clear();
        (self.last, self.mean_s) = (Instant::now(), None);
        if self.terminal {
            let bar = ProgressBar::new(steps).with_position(done).with_prefix(self.stage.clone());
            if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:12} {pos}/{len}  {wide_msg}") {
                bar.set_style(style);
            }
            bar.tick();
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, done: u64, steps: u64, row: &MetricsRow) {
        // With evaluations and checkpoints, which the time left has to count too.
        let wall_s = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let mean_s = self.mean_s.map_or(wall_s, |mean| mean + NEWEST * (wall_s - mean));
        self.mean_s = Some(mean_s);
        let left = duration(mean_s * steps.saturating_sub(done) as f64);
        let step_s = row.get(&metrics::filled(metrics::TIME_PHASE, "step")).unwrap_or(wall_s);
        let state = format!("{}  {}", numbers(row), duration(step_s));
        self.state.clone_from(&state);
        match &self.bar {
            Some(bar) => {
                bar.set_length(steps);
                bar.set_position(done);
                bar.set_message(format!("ETA {left}  {state}"));
            }
            None => say!("{} {done}/{steps}  {state}  ETA {left}", self.stage),
        }
    }

    fn example(&self, step: u64, prompt: &str, completion: &str, outcome: &Outcome) {
        let verdict = json!(outcome.verdict);
        let score = outcome.score.map_or("none".to_owned(), |s| fixed(s, 3));
        self.line(&format!(
            "example of step {step}: {}, reward {score}\n  prompt      {}\n  completion  {}\n  reason      {}",
            verdict.as_str().unwrap_or_default(),
            one_line(prompt, EXAMPLE),
            one_line(completion, EXAMPLE),
            one_line(&outcome.reason, EXAMPLE),
        ));
    }

    fn eval(&self, label: &str, results: &[EvalResult]) {
        for r in results {
            let mut text =
                format!("eval {label}: {} {:.3} {} of {}", r.set, r.accuracy, interval(r.ci95), r.n);
            for (k, value) in &r.pass_at {
                text.push_str(&format!("  pass@{k} {value:.3}"));
            }
            if r.no_answer_frac > 0.0 {
                text.push_str(&format!("  no answer {:.0} %", 100.0 * r.no_answer_frac));
            }
            if r.truncated_frac > 0.0 {
                text.push_str(&format!("  cut off {:.0} %", 100.0 * r.truncated_frac));
            }
            self.line(&text);
        }
    }

    fn preflight(&mut self, report: &PreflightReport) {
        let percent = |x: f64| format!("{:.0} %", 100.0 * x);
        let memory = match report.available_mb {
            Some(free) => format!("{:.0} MiB of {free:.0} MiB free", report.memory_mb),
            None => format!("{:.0} MiB", report.memory_mb),
        };
        self.line(&format!(
            "pre-flight: {} of {} completions: mean reward {}, no answer {}, cut off {}, groups without signal {}, \
             unjudged {}, end token {}, memory of a step about {memory}",
            count(report.prompts, "prompt"),
            report.group_size,
            report.reward_mean.map_or("none".to_owned(), |mean| fixed(mean, 3)),
            percent(report.no_answer_frac),
            percent(report.truncated_frac),
            percent(report.no_signal_frac),
            percent(report.masked_frac),
            if report.eos_seen { "seen" } else { "not seen" },
        ));
        for warning in &report.warnings {
            self.line(&format!("warning: {warning}"));
        }
        for blocker in &report.blockers {
            self.line(&format!("problem: {blocker}"));
        }
        if self.index == 0 {
            self.problems += report.warnings.len() + report.blockers.len();
        }
        self.last = Instant::now();
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start { dir, params, device, resumed_after } => {
                let resumed =
                    resumed_after.map_or(String::new(), |step| format!(", going on after step {step}"));
                let size = parameters(params);
                self.line(&format!("{}: {size} parameters on {device}{resumed}", dir.display()));
            }
            Event::Stage { index, count, name, done, steps } => self.stage(index, count, name, done, steps),
            Event::Step { done, steps, row } => self.step(done, steps, row),
            Event::Example { step, prompt, completion, outcome } => {
                self.example(step, prompt, completion, outcome)
            }
            Event::Preflight(report) => self.preflight(report),
            Event::Eval { label, results } => self.eval(label, results),
            Event::Checkpoint { path } => tracing::info!("checkpoint {}", path.display()),
            Event::Warning { step, metric, text } => {
                self.line(&format!("warning: step {step}: {text} ({metric})"));
            }
            Event::Note(text) => self.line(&format!("note: {text}")),
        }
    }
}

/// The numbers of a step that tell how it goes.
fn numbers(row: &MetricsRow) -> String {
    let mut parts = Vec::new();
    // A step of a stage that samples has neither where its rewards broke or its prompts were all skipped.
    if row.get(metrics::SFT_LOSS).is_none() && row.get(metrics::REWARD_MEAN).is_none() {
        parts.push("nothing was judged".to_owned());
    }
    let mut push = |name: &str, label: &str, digits: usize| {
        if let Some(value) = row.get(name) {
            parts.push(format!("{label} {}", fixed(value, digits)));
        }
    };
    push(metrics::SFT_LOSS, "loss", 4);
    push(metrics::REWARD_MEAN, "reward", 3);
    push(metrics::POLICY_REF_KL, "KL", 4);
    let speed = row.get(metrics::THROUGHPUT_DECODE).or_else(|| row.get(metrics::THROUGHPUT_TRAIN));
    if let Some(speed) = speed {
        parts.push(format!("{speed:.0} tok/s"));
    }
    if let Some(length) = row.get(metrics::COMPLETION_TOKENS_MEAN) {
        parts.push(format!("length {length:.1}"));
    }
    parts.join("  ")
}

fn parameters(n: usize) -> String {
    match n as f64 {
        x if x >= 1e9 => format!("{:.2} G", x / 1e9),
        x if x >= 1e6 => format!("{:.1} M", x / 1e6),
        x => format!("{:.0} k", x / 1e3),
    }
}
