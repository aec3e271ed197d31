//! A reward as a component: how near a completion comes to the sum that was asked for.

use std::cell::Cell;

use serde_json::Value;

use exports::rlvr::reward::judge::{Guest, Item, Judgement, Verdict};

wit_bindgen::generate!({ path: "../../../rewards/wit/rlvr-reward.wit", world: "reward" });

thread_local! {
    /// Every item has an instance of its own, so this is set by the `init` before each `score`.
    static SCALE: Cell<f64> = const { Cell::new(1.0) };
}

fn without_answer(score: Option<f64>, verdict: Verdict, reason: &str) -> Judgement {
    Judgement { score, verdict: Some(verdict), reason: reason.to_owned(), extracted: None }
}

struct NearSum;

impl Guest for NearSum {
    fn init(config: String) -> Result<(), String> {
        // A panic is the verdict `error`, but its message is only seen when it is logged.
        std::panic::set_hook(Box::new(|panic| log(&panic.to_string())));
        let config: Value = serde_json::from_str(&config).map_err(|e| e.to_string())?;
        let scale = config.get("scale").map_or(Some(1.0), Value::as_f64);
        SCALE.set(scale.filter(|s| *s > 0.0).ok_or("scale must be a number above 0")?);
        Ok(())
    }

    /// 1 for the right sum; less the further off a number is; 0 for what is no number.
    fn score(item: Item) -> Result<Judgement, String> {
        let reference: Value = serde_json::from_str(&item.reference).map_err(|e| e.to_string())?;
        let gold = reference["answer"].as_str().and_then(|answer| answer.parse::<f64>().ok());
        let Some(gold) = gold else {
            return Ok(without_answer(None, Verdict::Unverifiable, "reference.answer is not a number"));
        };
        let text = item.completion.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let Some(number) = text.parse::<f64>().ok().filter(|_| digits) else {
            return Ok(without_answer(Some(0.0), Verdict::NoAnswer, "not a number"));
        };
        let off = (number - gold).abs();
        let (score, reason) = match off {
            0.0 => (1.0, "right".to_owned()),
            _ => (0.5 / (1.0 + off / SCALE.get()), format!("off by {off}")),
        };
        Ok(Judgement { score: Some(score), verdict: None, reason, extracted: Some(text.to_owned()) })
    }
}

export!(NearSum);
