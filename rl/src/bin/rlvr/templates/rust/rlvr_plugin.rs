//! The protocol rlvr-plugin/1 around a function.

use serde_json::json;
pub use serde_json::Value;
use std::io::{BufRead, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What a completion is worth.
pub enum Score {
    /// A finite number; 1 and more is correct, 0 and less wrong.
    Of(f64),
    /// The task cannot be judged, and why.
    Unverifiable(String),
}

fn result(i: &Value, score: impl FnOnce() -> Score) -> Value {
    match catch_unwind(AssertUnwindSafe(score)) {
        Ok(Score::Of(x)) if x.is_finite() => json!({"i": i, "score": x}),
        Ok(Score::Of(x)) => {
            json!({"i": i, "verdict": "error", "reason": format!("score {x} is not finite")})
        }
        Ok(Score::Unverifiable(why)) => json!({"i": i, "verdict": "unverifiable", "reason": why}),
        Err(_) => json!({"i": i, "verdict": "error", "reason": "panicked, see the log"}),
    }
}

/// Answers the host until it says bye.
pub fn serve(name: &str, score: impl Fn(&Value, &Value) -> Score) {
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut config, mut line) = (Value::Null, Vec::new());
    loop {
        line.clear();
        if stdin.read_until(b'\n', &mut line).expect("reading stdin") == 0 {
            return;
        }
        let message: Value = serde_json::from_slice(&line).expect("a message of the host");
        let answer = match message["type"].as_str() {
            Some("hello") => {
                config = message["config"].clone();
                let capabilities = ["batch", "deterministic"];
                json!({"type": "hello", "protocol": 1, "name": name, "version": "1", "capabilities": capabilities})
            }
            Some("score") => {
                let items = message["items"].as_array().into_iter().flatten();
                let items: Vec<Value> = items.map(|x| result(&x["i"], || score(x, &config))).collect();
                json!({"type": "result", "batch": message["batch"], "items": items})
            }
            _ => return,
        };
        writeln!(stdout, "{answer}").expect("writing stdout");
        stdout.flush().expect("writing stdout");
    }
}
