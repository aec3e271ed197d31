//! Options ranked by likelihood, as rows of `samples.jsonl`.

use crate::error::Error;
use crate::eval::likelihood::{OptionScores, score_options};
use crate::eval::{Benchmark, Item, Judged, solved};
use crate::policy::Policy;
use crate::results::{RANKED, SampleRow};
use rlvr_rewards::{Outcome, Task, Verdict};
use serde_json::{Map, Value, json};

/// The options of some items of a benchmark by likelihood: two rows an item, plain and per character.
pub(super) fn rank(
    policy: &Policy,
    benchmark: &Benchmark,
    items: &[Item],
) -> Result<Vec<Map<String, Value>>, Error> {
    let items: Vec<&Item> = items.iter().collect();
    let of = benchmark.likelihood.unwrap_or_default();
    let mut rows = Vec::with_capacity(2 * items.len());
    for (item, scores) in items.iter().zip(score_options(policy, &items, of)?) {
        for (ending, index) in RANKED.iter().zip([scores.plain(), scores.normalised()]) {
            let name = format!("{}{ending}", benchmark.name);
            let mut row = ranked(&name, item, index);
            if *ending == RANKED[0] {
                let parts = item.likelihood.as_ref().map(|p| p.messages(policy.is_raw())).unwrap_or_default();
                let task = Task { prompt: parts, ..item.task.clone() };
                row.insert("prompt".into(), json!(policy.prompt_text(&task.prompt)?));
                if !task.images.is_empty() {
                    row.insert("images".into(), policy.names_of(&task)?);
                }
                row.insert("options".into(), options(item, &scores));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

fn options(item: &Item, scores: &OptionScores) -> Value {
    let option = |i: usize| {
        json!({
            "label": item.options[i].label, "logprob": scores.logprobs[i], "characters": scores.characters[i],
            "tokens": scores.tokens[i],
        })
    };
    (0..item.options.len()).map(option).collect()
}

fn ranked(name: &str, item: &Item, chosen: usize) -> Map<String, Value> {
    let label = item.options[chosen].label.clone();
    let gold = item.gold.map(|g| item.options[g].label.clone());
    let (verdict, reason) = match item.gold {
        Some(gold) if gold == chosen => (Verdict::Correct, "the most likely option is right"),
        Some(_) => (Verdict::Incorrect, "another option is more likely"),
        // In the words of the verifier.
        None => (Verdict::Unverifiable, "the reference names no option"),
    };
    let mut outcome = Outcome::of(verdict, "likelihood", reason).with_extracted(label.clone());
    outcome.prediction = Some(label.clone());
    outcome.gold = gold;
    let judged = Judged { task: 0, text: label, tokens: 0, truncated: false, outcome };
    debug_assert!(!solved(&judged.outcome) || item.gold == Some(chosen));
    SampleRow::new(name, item, 0, judged).fields(false)
}
