//! Completions of `rollouts.jsonl` to read, and the counts of their verdicts, in one pass.

use std::collections::BTreeMap;
use std::path::Path;

use rlvr_rewards::{Outcome, Part, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::History;
use super::pictures::{Pictures, Shown};
use super::{ReportOptions, rows};
use crate::error::Error;
use crate::metrics;
use crate::random;

const SAMPLE_STREAM: u64 = 0x7265_706f;
/// Characters of a text that are shown; of longer ones the middle is left out.
const TEXT_CHARS: usize = 10_000;

/// First and last step that sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(u64, u64);

/// The steps that samples are taken from: the first, middle and last tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Window {
    First,
    Middle,
    Last,
}

/// What a verdict means to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// `correct`.
    Right,
    /// `incorrect`, `partial`, `ambiguous`.
    Wrong,
    /// `no_answer`, `unverifiable`, `error`.
    Unjudged,
}

const WINDOWS: [(Window, &str); 3] =
    [(Window::First, "First tenth"), (Window::Middle, "Middle tenth"), (Window::Last, "Last tenth")];
const KINDS: [Kind; 3] = [Kind::Right, Kind::Wrong, Kind::Unjudged];

/// The verdicts of the table, and those that are listed only where they occur.
const VERDICTS: [(Verdict, bool); 7] = [
    (Verdict::Correct, true),
    (Verdict::Partial, false),
    (Verdict::Incorrect, true),
    (Verdict::NoAnswer, true),
    (Verdict::Ambiguous, false),
    (Verdict::Unverifiable, true),
    (Verdict::Error, true),
];

impl Span {
    /// The steps with rewards; none before the first.
    pub(super) fn of(history: &History) -> Option<Self> {
        let sampled = history.series(metrics::REWARD_MEAN);
        Some(Self(sampled.first()?.0, sampled.last()?.0))
    }

    /// The same from the rollouts themselves, for a run without metrics.
    pub(super) fn of_rows(path: &Path) -> Result<Option<Self>, Error> {
        let mut span: Option<Self> = None;
        rows::each(path, &mut |line| {
            let step = rows::parse::<Head>(line)?.step;
            span = Some(
                span.map_or(Self(step, step), |Self(first, last)| Self(first.min(step), last.max(step))),
            );
            Ok(())
        })?;
        Ok(span)
    }

    /// Where a step lies: 0 at the first, 1 at the last. Rollouts may be one step ahead of the metrics.
    fn place(self, step: u64) -> f64 {
        (step as f64 - self.0 as f64) / (self.1.saturating_sub(self.0)).max(1) as f64
    }
}

fn window(place: f64) -> Option<Window> {
    match place {
        p if p <= 0.1 => Some(Window::First),
        p if (0.45..=0.55).contains(&p) => Some(Window::Middle),
        p if p >= 0.9 => Some(Window::Last),
        _ => None,
    }
}

fn kind(verdict: Verdict) -> Kind {
    match verdict {
        Verdict::Correct => Kind::Right,
        Verdict::Incorrect | Verdict::Partial | Verdict::Ambiguous => Kind::Wrong,
        Verdict::NoAnswer | Verdict::Unverifiable | Verdict::Error => Kind::Unjudged,
    }
}

/// The name of a verdict, as in the files.
fn name(verdict: Verdict) -> String {
    let value = serde_json::to_value(verdict).ok();
    value.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What is needed of every row.
#[derive(Deserialize)]
struct Head {
    step: u64,
    group: u64,
    sample: u64,
    outcome: HeadOutcome,
}

#[derive(Deserialize)]
struct HeadOutcome {
    verdict: Verdict,
}

/// What is shown of a row.
#[derive(Deserialize)]
struct RolloutLine {
    stage: String,
    id: String,
    #[serde(default)]
    reference: Value,
    prompt: String,
    #[serde(default)]
    images: Vec<String>,
    completion: String,
    finish_reason: String,
    length_tokens: u64,
    reward: Option<f64>,
    advantage: Option<f64>,
    outcome: Outcome,
}

/// A completion as the page shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ShownSample {
    step: u64,
    kind: Kind,
    verdict: String,
    id: String,
    reward: String,
    prompt: String,
    /// Stage and names of the pictures, until they are drawn.
    #[serde(skip)]
    named: (String, Vec<String>),
    pictures: Vec<Shown>,
    completion: String,
    reference: String,
    /// Name and value.
    facts: Vec<(&'static str, String)>,
    parts: Vec<PartRow>,
}

/// A part of a reward, nested ones behind the one they belong to.
#[derive(Debug, Clone, Serialize)]
struct PartRow {
    name: String,
    weight: String,
    score: String,
    verdict: String,
    extracted: String,
    reason: String,
}

/// The samples of some steps.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SampleGroup {
    title: &'static str,
    samples: Vec<ShownSample>,
}

/// A row of the table of verdicts: all completions, the early and the late third of the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct VerdictRow {
    verdict: String,
    all: String,
    early: String,
    late: String,
}

/// What the page shows of `rollouts.jsonl`.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Samples {
    /// Recorded completions.
    pub rows: u64,
    pub verdicts: Vec<VerdictRow>,
    pub groups: Vec<SampleGroup>,
}

/// Step, group and sample: what tells rows apart.
type Place = [u64; 3];

/// Chooses rows: of each bucket those whose hashes are smallest, which is a uniform choice in one pass and does not
/// depend on the order of the rows.
struct Chooser {
    most: usize,
    seed: u64,
    buckets: BTreeMap<(Window, Kind), BTreeMap<(u64, Place), ShownSample>>,
}

impl Samples {
    /// Reads `rollouts.jsonl`. In each of the three windows right, wrong and unjudged completions take turns until
    /// `options.samples` are chosen or none are left.
    pub(super) fn read(path: &Path, span: Option<Span>, options: &ReportOptions) -> Result<Self, Error> {
        let mut chooser = Chooser { most: options.samples, seed: options.seed, buckets: BTreeMap::new() };
        let mut counts = [[0_u64; 7]; 3];
        let mut rows = 0;
        rows::each(path, &mut |line| {
            let head: Head = rows::parse(line)?;
            let place = span.map_or(0.0, |span| span.place(head.step));
            chooser.offer(&head, place, line)?;
            let third = (3.0 * place).clamp(0.0, 2.0) as usize;
            let column = VERDICTS.iter().position(|(v, _)| *v == head.outcome.verdict);
            counts[third][column.unwrap_or_default()] += 1;
            rows += 1;
            Ok(())
        })?;
        Ok(Self { rows, verdicts: table(&counts), groups: chooser.groups() })
    }
}

impl Samples {
    /// Draws the pictures of the chosen samples.
    pub(super) fn draw(&mut self, pictures: &mut Pictures) {
        for sample in self.groups.iter_mut().flat_map(|group| &mut group.samples) {
            let (stage, names) = &sample.named;
            sample.pictures = pictures.of(stage, &sample.id, names);
        }
    }
}

fn table(counts: &[[u64; 7]; 3]) -> Vec<VerdictRow> {
    let totals = counts.map(|third| third.iter().sum::<u64>());
    let cell = |n: u64, of: u64| match of {
        0 => "–".to_owned(),
        _ => format!("{n} ({:.1} %)", 100.0 * n as f64 / of as f64),
    };
    let row = |(i, (verdict, always)): (usize, &(Verdict, bool))| {
        let all = counts.iter().map(|third| third[i]).sum();
        (*always || all > 0).then(|| VerdictRow {
            verdict: name(*verdict),
            all: cell(all, totals.iter().sum()),
            early: cell(counts[0][i], totals[0]),
            late: cell(counts[2][i], totals[2]),
        })
    };
    VERDICTS.iter().enumerate().filter_map(row).collect()
}

impl Chooser {
    fn offer(&mut self, head: &Head, place: f64, line: &[u8]) -> Result<(), String> {
        let Some(window) = window(place) else { return Ok(()) };
        let (kind, most) = (kind(head.outcome.verdict), self.most);
        let place = [head.step, head.group, head.sample];
        let key = (random::word(&[self.seed, SAMPLE_STREAM, place[0], place[1], place[2]]), place);
        let bucket = self.buckets.entry((window, kind)).or_default();
        if most == 0 || (bucket.len() >= most && bucket.last_key_value().is_some_and(|(k, _)| *k < key)) {
            return Ok(());
        }
        bucket.insert(key, ShownSample::new(head, rows::parse(line)?));
        if bucket.len() > most {
            bucket.pop_last();
        }
        Ok(())
    }

    fn groups(self) -> Vec<SampleGroup> {
        let mut left = self.most;
        let mut queues: Vec<_> = (WINDOWS.iter())
            .flat_map(|(window, _)| KINDS.map(|kind| (*window, kind)))
            .map(|place| (place, self.buckets.get(&place).into_iter().flatten()))
            .collect();
        let mut chosen: BTreeMap<Window, BTreeMap<(Kind, Place), &ShownSample>> = BTreeMap::new();
        loop {
            let before = left;
            for ((window, kind), queue) in &mut queues {
                if left > 0
                    && let Some(((_, place), sample)) = queue.next()
                {
                    chosen.entry(*window).or_default().insert((*kind, *place), sample);
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
        let group = |(window, title): &(Window, &'static str)| {
            let samples = chosen.remove(window)?.into_values().cloned().collect();
            Some(SampleGroup { title, samples })
        };
        WINDOWS.iter().filter_map(group).collect()
    }
}

impl ShownSample {
    fn new(head: &Head, row: RolloutLine) -> Self {
        let number = |value: Option<f64>| value.map_or("none (masked out)".to_owned(), super::chart::number);
        let outcome = row.outcome;
        let reference = match &row.reference {
            Value::Null => String::new(),
            value => serde_json::to_string_pretty(value).unwrap_or_default(),
        };
        let named = (row.stage.clone(), row.images);
        let mut facts = vec![
            ("stage", row.stage),
            ("group, sample", format!("{}, {}", head.group, head.sample)),
            ("reward", number(row.reward)),
            ("advantage", number(row.advantage)),
            ("verdict", name(outcome.verdict)),
            ("extracted", outcome.extracted.unwrap_or_else(|| "nothing".to_owned())),
        ];
        let more = [("read as", outcome.prediction), ("reference read as", outcome.gold)];
        facts.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        facts.push(("reason", outcome.reason));
        facts.push(("method", outcome.method));
        facts.push(("ended by", format!("{}, after {} tokens", row.finish_reason, row.length_tokens)));
        let facts = facts.into_iter().map(|(name, value)| (name, shortened(&value))).collect();
        let mut parts = Vec::new();
        flatten(&outcome.parts, "", &mut parts);
        Self {
            step: head.step,
            kind: kind(head.outcome.verdict),
            verdict: name(head.outcome.verdict),
            id: shortened(&row.id),
            reward: number(row.reward),
            prompt: shortened(&row.prompt),
            named,
            pictures: Vec::new(),
            completion: shortened(&row.completion),
            reference: shortened(&reference),
            facts,
            parts,
        }
    }
}

fn flatten(parts: &[Part], above: &str, rows: &mut Vec<PartRow>) {
    for part in parts {
        let path = format!("{above}{}", part.name);
        rows.push(PartRow {
            name: shortened(&path),
            weight: super::chart::number(part.weight),
            score: part.score.map_or("none".to_owned(), super::chart::number),
            verdict: name(part.verdict),
            extracted: shortened(part.extracted.as_deref().unwrap_or_default()),
            reason: shortened(&part.reason),
        });
        flatten(&part.parts, &format!("{path} / "), rows);
    }
}

/// At most [`TEXT_CHARS`] characters, the middle left out.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= TEXT_CHARS {
        return text.to_owned();
    }
    let half = TEXT_CHARS / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!("{head}\n[… {} characters left out …]\n{tail}", count - 2 * half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(step: u64, sample: u64, verdict: &str) -> Value {
        let masked = ["unverifiable", "error"].contains(&verdict);
        json!({"step": step, "stage": "grpo", "group": 0, "sample": sample, "id": "a", "prompt": "1+1=",
            "completion": format!("{step} {sample}"), "finish_reason": "stop", "length_tokens": 3,
            "reward": if masked { Value::Null } else { json!(0.5) }, "advantage": null,
            "outcome": {"score": null, "verdict": verdict, "extracted": null, "gold": null, "prediction": null,
                "method": "m", "reason": "r", "work": 1, "parts": [{"name": "p", "weight": 1.0, "score": null,
                    "verdict": "error", "extracted": null, "method": "m", "reason": "r",
                    "parts": [{"name": "q", "weight": 0.5, "score": 1.0, "verdict": "correct",
                        "extracted": "x", "method": "m", "reason": "r"}]}]}})
    }

    fn read(rows: &[Value], samples: usize, seed: u64) -> Samples {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rollouts.jsonl");
        std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
        Samples::read(&path, Some(Span(1, 101)), &ReportOptions { samples, seed }).unwrap()
    }

    fn chosen(samples: &Samples) -> Vec<(&'static str, u64, String)> {
        let each = |g: &SampleGroup| g.samples.iter().map(|s| (g.title, s.step, s.verdict.clone())).collect();
        samples.groups.iter().flat_map(|g| -> Vec<_> { each(g) }).collect()
    }

    #[test]
    fn samples_are_spread_over_steps_and_verdicts() {
        let mut all = Vec::new();
        for step in 1..=102 {
            all.extend((0..6).map(|i| row(step, i, "incorrect")));
            all.push(row(step, 6, if step < 50 { "no_answer" } else { "error" }));
            all.push(row(step, 7, "correct"));
        }
        let found = read(&all, 9, 0);
        assert_eq!(found.rows, 8 * 102);
        let list = chosen(&found);
        let titles: Vec<_> = list.iter().map(|(title, ..)| *title).collect();
        assert_eq!(titles, ["First tenth", "Middle tenth", "Last tenth"].map(|t| [t; 3]).concat());
        for verdicts in list.chunks(3) {
            assert_eq!((&*verdicts[0].2, &*verdicts[1].2), ("correct", "incorrect"), "{list:?}");
        }
        assert_eq!((&*list[2].2, &*list[8].2), ("no_answer", "error"));
        let within = [(1, 11), (46, 56), (91, 102)];
        assert!(list.chunks(3).zip(within).all(|(l, (a, b))| l.iter().all(|s| (a..=b).contains(&s.1))));

        // The choice depends on the seed, not on the order of the rows; what lacks is taken elsewhere.
        let texts = |s: &Samples| format!("{:?}", s.groups);
        assert_ne!(texts(&found), texts(&read(&all, 9, 1)));
        all.reverse();
        assert_eq!(texts(&found), texts(&read(&all, 9, 0)));
        let few = [row(1, 0, "correct"), row(1, 1, "correct"), row(99, 0, "incorrect")];
        assert_eq!(chosen(&read(&few, 24, 0)).len(), 3);
        assert!(read(&few, 0, 0).groups.is_empty());
    }

    #[test]
    fn verdicts_are_counted_by_thirds() {
        let rows =
            [row(1, 0, "no_answer"), row(30, 0, "correct"), row(50, 0, "error"), row(102, 0, "correct")];
        let table = read(&rows, 0, 0).verdicts;
        let cells = |v: &str| {
            let row = table.iter().find(|r| r.verdict == v).unwrap();
            [row.all.clone(), row.early.clone(), row.late.clone()]
        };
        assert_eq!(cells("correct"), ["2 (50.0 %)", "1 (50.0 %)", "1 (100.0 %)"]);
        assert_eq!(cells("error"), ["1 (25.0 %)", "0 (0.0 %)", "0 (0.0 %)"]);
        let names: Vec<_> = table.iter().map(|r| &*r.verdict).collect();
        assert_eq!(names, ["correct", "incorrect", "no_answer", "unverifiable", "error"]);
    }

    #[test]
    fn a_sample_has_its_parts_and_a_bounded_text() {
        let mut long = row(1, 0, "partial");
        long["completion"] = json!(format!("start{}end", "é".repeat(3 * TEXT_CHARS)));
        let found = read(&[long], 1, 0);
        let sample = &found.groups[0].samples[0];
        assert!(sample.completion.starts_with("startéé") && sample.completion.ends_with("ééend"));
        assert!(sample.completion.contains("[… 20008 characters left out …]"), "{}", sample.completion.len());
        let parts: Vec<_> = sample.parts.iter().map(|p| (&*p.name, &*p.score, &*p.extracted)).collect();
        assert_eq!(parts, [("p", "none", ""), ("p / q", "1", "x")]);
        assert!(sample.facts.contains(&("reward", "0.5".to_owned())), "{:?}", sample.facts);
    }
}
