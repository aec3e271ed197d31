use super::*;

fn input(arrays: &str, cases: &str) -> String {
    format!("{{\"arrays\":{arrays},\"cases\":{cases}}}")
}

const TWO: &str =
    r#"{"logprobs":[[-1.0,-2.0],[-0.5,null]],"loss_mask":[[1,1],[1,0]],"advantages":[1.0,-0.5]}"#;

fn check_error(arrays: &str, cases: &str, expected: &str) {
    assert_eq!(conformance(&input(arrays, cases)).unwrap_err().to_string(), expected);
}

#[test]
fn on_policy_by_hand() {
    let found =
        conformance(&input(TWO, r#"{"a":{},"b":{"accumulation_steps":2},"c":{"totals":{"tokens":6}}}"#));
    let found = found.unwrap();
    // Three tokens of ratio 1: −(1 + 1 − 0.5)/3.
    assert_eq!(found["a"]["loss"], json!(-0.5));
    assert_eq!(found["a"]["grad"], json!([[-1.0 / 3.0, -1.0 / 3.0], [0.5 / 3.0, 0.0]]));
    assert_eq!(found["b"], found["c"]);
    assert_eq!(found["b"]["loss"], json!(-0.25));
    assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn a_case_may_replace_and_remove_arrays() {
    let arrays = r#"{"logprobs":[[-1.0,-2.0]],"old_logprobs":[[-1.5,-2.0]],"advantages":[1.0]}"#;
    let cases = r#"{"clipped":{},"on_policy":{"arrays":{"old_logprobs":null}},
        "tokens":{"arrays":{"advantages":[[1.0,-3.0]],"old_logprobs":null,"loss_mask":[[false,true]]}}}"#;
    let found = conformance(&input(arrays, cases)).unwrap();
    assert_eq!(found["clipped"]["grad"], json!([[0.0, -0.5]]));
    assert_eq!(found["on_policy"]["grad"], json!([[-0.5, -0.5]]));
    assert_eq!(found["tokens"]["grad"], json!([[0.0, 3.0]]));
}

#[test]
fn names_of_the_papers_are_accepted() {
    let cases = r#"{
        "gspo":{"policy":"gspo","clip_low":3e-4,"clip_high":4e-4},
        "same":{"policy":"clip","importance":"sequence","clip_low":3e-4,"clip_high":4e-4},
        "cispo":{"policy":"cispo","c":1.5,"advantage":"dr_grpo"}, "cap":{"policy":"cispo","clip_high":1.5},
        "dr":{"aggregate":"constant","max_completion_length":12,"dual_clip":null}}"#;
    let arrays = r#"{"logprobs":[[-1.0,-2.0]],"old_logprobs":[[-1.5,-2.3]],"advantages":[-1.0]}"#;
    let found = conformance(&input(arrays, cases)).unwrap();
    assert_eq!(found["gspo"], found["same"]);
    assert_eq!(found["cispo"], found["cap"]);
}

#[test]
fn broken_input_is_one_clear_error() {
    check_error(
        TWO,
        r#"{"x":{"clip_hi":0.3}}"#,
        "case `x`: unknown key `clip_hi`, the nearest valid key is `clip_high`",
    );
    check_error(
        r#"{"logprob":[[0]]}"#,
        "{}",
        "arrays: unknown key `logprob`, the nearest valid key is `logprobs`",
    );
    check_error("{}", r#"{"x":{}}"#, "case `x`, arrays.logprobs: is missing");
    check_error(
        r#"{"logprobs":[[-1.0],[-2.0]],"advantages":[1.0]}"#,
        r#"{"x":{}}"#,
        "case `x`, arrays.advantages: has 1 entries, logprobs has 2 rows",
    );
    check_error(
        r#"{"logprobs":[[-1.0,-2.0]],"old_logprobs":[[-1.0]],"advantages":[1.0]}"#,
        r#"{"x":{}}"#,
        "case `x`, arrays.old_logprobs[0]: has 1 entries, logprobs[0] has 2",
    );
    check_error(
        r#"{"logprobs":[[-1.0]],"loss_mask":[[0.5]],"advantages":[1.0]}"#,
        r#"{"x":{}}"#,
        "case `x`, arrays.loss_mask[0][0]: must be 0 or 1",
    );
    check_error(
        r#"{"logprobs":[[null]],"advantages":[1.0]}"#,
        r#"{"x":{}}"#,
        "case `x`: sequence 0, token 0: logprobs is NaN",
    );
    check_error(TWO, r#"{"x":{"kl_coef":0.1}}"#, "case `x`: sequence 0: kl_coef needs ref_logprobs");
    let message = |cases: &str| conformance(&input(TWO, cases)).unwrap_err().to_string();
    assert!(message(r#"{"x":{"kl_coef":0.1,"kl_estimator":"k1"}}"#).contains("expectation is zero"));
    let unknown = message(r#"{"x":{"clip_low":0.1,"policy":"ppo"}}"#);
    assert!(
        unknown.contains("case `x`, policy: unknown variant `ppo`, expected one of `clip`, `gspo`"),
        "{unknown}"
    );
    assert!(message(r#"{"x":{"c":2,"cap":3}}"#).contains("duplicate field"));
    assert!(conformance("{\n\"cases\": nope}").unwrap_err().to_string().contains("line 2"));
}

#[test]
fn golden_cases_through_the_command() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/grpo_loss.json")).unwrap();
    let arrays = &golden["arrays"];
    let request = json!({
        "arrays": {
            "logprobs": arrays["logps"], "old_logprobs": arrays["old"], "ref_logprobs": arrays["ref"],
            "loss_mask": arrays["mask"], "advantages": arrays["advantages"],
        },
        "cases": {
            "dapo/token/clip_higher_0.2_0.28": {"policy": "clip", "clip_low": 0.2, "clip_high": 0.28},
            "dr_grpo/token/beta0.04_biascorr": {
                "clip_low": 0.2, "clip_high": 0.2, "aggregate": "constant", "max_tokens": 12,
                "kl_coef": 0.04, "kl_estimator": "k3_unbiased",
            },
            "grpo/sequence/tight_eps3e-4_4e-4": {"policy": "gspo", "aggregate": "sequence_mean"},
            "sapo/token/on_policy_no_old": {
                "policy": "sapo", "aggregate": "sequence_mean", "kl_coef": 0.04, "kl_estimator": "k3_unbiased",
                "arrays": {"old_logprobs": null},
            },
            "cispo/sequence/accum2_spg2": {
                "policy": "cispo", "importance": "sequence", "cispo_cap": 5, "accumulation_steps": 2,
            },
        },
    });
    let found = conformance(&request.to_string()).unwrap();
    for (name, found) in found.as_object().unwrap() {
        let expected = &golden["cases"][name];
        let flat = |v: &Value| -> Vec<f64> {
            v.as_array()
                .unwrap()
                .iter()
                .flat_map(|r| r.as_array().unwrap())
                .map(|v| v.as_f64().unwrap())
                .collect()
        };
        assert!(
            (found["loss"].as_f64().unwrap() - expected["loss"].as_f64().unwrap()).abs() < 1e-9,
            "{name}"
        );
        for (a, b) in flat(&found["grad"]).iter().zip(flat(&expected["grad_logps"])) {
            assert!((a - b).abs() < 1e-9, "{name}: {a} {b}");
        }
    }
}
