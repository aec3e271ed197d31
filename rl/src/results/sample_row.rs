//! A row of `samples.jsonl`.

use crate::eval::judge::Opinion;
use crate::eval::{Benchmark, Item, Judged, short_fields};
use rlvr_rewards::{Outcome, Verdict};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A judged completion with its item, as `samples.jsonl` has it.
#[derive(Debug)]
pub struct SampleRow {
    task: String,
    id: String,
    group: Option<String>,
    /// Short fields of the data row.
    meta: Map<String, Value>,
    /// Number among the samples of its item.
    pub number: usize,
    /// The prompt, as text or messages; null where it is not recorded.
    pub prompt: Value,
    /// What its pictures are called, a list; null without any.
    pub images: Value,
    /// What was found; `judged.task` is the item's index.
    pub judged: Judged,
    /// What a judge says.
    pub opinion: Option<Opinion>,
}

impl SampleRow {
    /// A sample of an item under the name of its task, without a prompt or an opinion.
    pub fn new(task: &str, item: &Item, number: usize, judged: Judged) -> Self {
        let (id, group, meta) = (item.task.id.clone(), item.group.clone(), short_fields(&item.task.meta));
        let (prompt, images) = (Value::Null, Value::Null);
        Self { task: task.to_owned(), id, group, meta, number, prompt, images, judged, opinion: None }
    }

    /// The fields of the row; `counted` says whether the length in tokens is known.
    pub fn fields(&self, counted: bool) -> Map<String, Value> {
        let (j, o) = (&self.judged, &self.judged.outcome);
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
        put("task", json!(self.task));
        put("id", json!(self.id));
        put("sample", json!(self.number));
        if let Some(group) = &self.group {
            put("group", json!(group));
        }
        if !self.meta.is_empty() {
            put("meta", json!(self.meta));
        }
        if !self.prompt.is_null() {
            put("prompt", self.prompt.clone());
        }
        if !self.images.is_null() {
            put("images", self.images.clone());
        }
        put("completion", json!(j.text));
        put("extracted", json!(o.extracted));
        put("verdict", json!(o.verdict));
        put("score", json!(o.score));
        put("reason", json!(o.reason));
        put("method", json!(o.method));
        put("gold", json!(o.gold));
        put("prediction", json!(o.prediction));
        put("truncated", json!(j.truncated));
        if counted {
            put("tokens", json!(j.tokens));
        }
        if let Some(opinion) = &self.opinion {
            put("judge", json!(opinion));
        }
        row
    }

    /// A row read back; none when it is not one of the benchmark's, whose items have these `places` by id.
    pub fn read(
        row: &Map<String, Value>,
        benchmark: &Benchmark,
        places: &HashMap<&str, usize>,
    ) -> Option<Self> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = text("id")?;
        let item = *places.get(id.as_str())?;
        let verdict: Verdict = serde_json::from_value(row.get("verdict")?.clone()).ok()?;
        let mut outcome = Outcome::of(verdict, text("method")?, text("reason")?);
        outcome.score = row.get("score").and_then(Value::as_f64);
        outcome.extracted = text("extracted");
        outcome.gold = text("gold");
        outcome.prediction = text("prediction");
        let judged = Judged {
            task: item,
            text: text("completion")?,
            tokens: row.get("tokens").and_then(Value::as_u64).unwrap_or(0) as usize,
            truncated: row.get("truncated").and_then(Value::as_bool)?,
            outcome,
        };
        let number = row.get("sample").and_then(Value::as_u64)? as usize;
        let opinion = row.get("judge").and_then(|o| serde_json::from_value(o.clone()).ok());
        Some(Self { opinion, ..Self::new(&text("task")?, &benchmark.items[item], number, judged) })
    }
}
