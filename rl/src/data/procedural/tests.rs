//! What holds for every kind: seeded, different, disjoint splits, gold accepted, wrong answers refused.

use std::collections::HashSet;

use super::*;
use crate::checks::Problem;
use crate::data::{DataConfig, TaskSource};
use rlvr_rewards::{Response, Reward, RewardConfig, Verdict, score_one};

fn config(kind: &str, more: &str) -> DataConfig {
    toml::from_str(&format!("kind = {kind:?}\n{more}")).unwrap_or_else(|e| panic!("{kind} {more}: {e}"))
}

fn open(kind: &str, more: &str, seed: u64) -> TaskSource {
    TaskSource::open("t", &config(kind, more), seed).unwrap_or_else(|e| panic!("{kind} {more}: {e}"))
}

fn reward(kind: &str) -> Box<dyn Reward> {
    RewardConfig::from_kind(kind).unwrap().build().unwrap()
}

/// Every kind with its defaults, and the harder corners.
fn cases() -> Vec<(Kind, &'static str)> {
    let mut cases: Vec<(Kind, &str)> = kinds().into_iter().map(|kind| (kind, "")).collect();
    let all = kinds();
    for (name, more) in [
        ("addition", "max_digits = 18"),
        ("arithmetic", "operators = \"+-*/\"\nparentheses = true\nmax_operands = 8\nmax_number = 1000"),
        ("base_conversion", "max_number = 1000000000000"),
        ("calendar", "question = \"weekday\"\nmin_year = 1600\nmax_year = 9998"),
        ("calendar", "question = \"shift\"\nmax_days = 365"),
        ("countdown", "numbers = 6\nmax_target = 1000"),
        ("digits", "min_digits = 8\nmax_digits = 8\nsize = 64"),
        ("digits", "max_digits = 1\nsize = 16\nnoise = 64"),
        ("equation", "both_sides = true\nnegative = true\nmax_solution = 1000000\nmax_constant = 1000000"),
        ("facts", "facts = 40\npeople = 16"),
        ("lab_panel", "analytes = 8\ndays = 4\nsize = 212\nnoise = 0"),
        ("lab_panel", "questions = [\"value\", \"range\"]\nanalytes = 1\ndays = 1"),
        ("letter_count", "max_length = 64\nletters = 2"),
        ("logic", "question = \"satisfy\"\nvariables = 6\ndepth = 4"),
        ("logic", "variables = 6\ndepth = 6"),
        ("lookup", "patients = 12\nanalytes = 8\ndistractor = true"),
        ("lookup", "question = \"value\"\nanalytes = 1"),
        ("reverse_text", "words = 4\nmin_length = 1\nmax_length = 64"),
        ("shapes", "max_objects = 6\ncolours = 6\nsize = 64\nletters = true"),
        ("shapes", "questions = [\"caption\"]\nmin_objects = 2\nblank = true"),
        ("sorting", "max_length = 32\norder = \"descending\"\nmax_number = 1000000"),
        ("sudoku", "min_blanks = 1\nmax_blanks = 16"),
        ("unit_conversion", "max_number = 1000000\nmax_decimals = 9"),
    ] {
        let kind = all.iter().find(|k| k.name == name).unwrap();
        cases.push((kind.clone(), more));
    }
    cases
}

/// The answer with its last digit or letter changed.
fn mutated(answer: &str) -> String {
    let at = answer.rfind(|c: char| c.is_ascii_alphanumeric()).unwrap();
    let other = match answer.as_bytes()[at] {
        b'9' => '0',
        b'z' => 'a',
        c => char::from(c + 1),
    };
    format!("{}{other}{}", &answer[..at], &answer[at + 1..])
}

#[test]
fn the_same_seed_gives_the_same_tasks_and_all_differ() {
    for (kind, more) in cases() {
        let more = format!("{more}\ntasks = 150");
        let (a, b, other) = (open(kind.name, &more, 1), open(kind.name, &more, 1), open(kind.name, &more, 2));
        assert_eq!(a.len(), 150, "{} {more}", kind.name);
        let (mut ids, mut prompts) = (HashSet::new(), HashSet::new());
        for i in 0..a.len() {
            assert_eq!((a.task(i), a.example(i).unwrap()), (b.task(i), b.example(i).unwrap()));
            let (task, example) = (a.task(i), a.example(i).unwrap());
            assert!(ids.insert(task.id.clone()), "{}", task.id);
            let blank = more.contains("blank = true");
            let seen = (task.prompt[0].content.clone(), task.images.clone());
            assert!(prompts.insert(seen) || blank, "{:?}", task.prompt);
            let text = format!("{}{}", task.prompt[0].content, example.completion);
            assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
            assert!(!example.completion.is_empty());
        }
        let others: HashSet<String> = (0..other.len()).map(|i| other.task(i).id.clone()).collect();
        assert_ne!(ids, others, "{} {more}", kind.name);
    }
}

#[test]
fn no_task_is_on_both_sides_of_the_split() {
    for (kind, more) in cases() {
        let ids = |split: &str, seed| {
            let source =
                open(kind.name, &format!("{more}\ntasks = 150\nsplit = {split:?}\nheldout_frac = 0.4"), seed);
            (0..source.len()).map(|i| source.task(i).id.clone()).collect::<HashSet<_>>()
        };
        let (train, heldout) = (ids("train", 1), ids("heldout", 2));
        assert!(train.is_disjoint(&heldout) && !heldout.is_empty(), "{} {more}", kind.name);
        // The same seed draws the same tasks, so that nothing but the hash keeps the sides apart.
        assert!(train.is_disjoint(&ids("heldout", 1)), "{} {more}", kind.name);
    }
}

#[test]
fn checkers_accept_gold_and_completions_and_refuse_wrong_answers() {
    for (kind, more) in cases() {
        for format in ["plain", "think"] {
            if more.contains("caption") && format == "plain" {
                // A sentence is no answer unless the reward is told so.
                continue;
            }
            let source = open(kind.name, &format!("{more}\ntasks = 60\nformat = {format:?}"), 3);
            for judge in [kind.reward, "procedural"].map(reward) {
                let mut refused_other = 0;
                for i in 0..source.len() {
                    let (task, example) = (source.task(i), source.example(i).unwrap());
                    let place = format!("{} {} {}", kind.name, judge.name(), example.completion);
                    let verdict = |text: &str| score_one(&*judge, task, Response::new(text)).verdict;
                    assert_eq!(judge.check_task(task), Ok(()), "{place}");
                    assert_eq!(verdict(&judge.gold(task).unwrap()), Verdict::Correct, "{place}: gold");
                    assert_eq!(verdict(&example.completion), Verdict::Correct, "{place}: completion");
                    let answer = example.completion.rsplit("<answer>").next().unwrap();
                    let answer = answer.strip_suffix("</answer>").unwrap_or(answer);
                    // Within its tolerance, `numeric` takes a large number for its neighbour.
                    if judge.name() != "numeric" || answer.len() < 6 {
                        assert_ne!(
                            verdict(&mutated(answer)),
                            Verdict::Correct,
                            "{place}: {}",
                            mutated(answer)
                        );
                    }
                    assert_ne!(verdict(""), Verdict::Correct, "{place}");
                    assert_ne!(verdict(&task.prompt[0].content), Verdict::Correct, "{place}: the prompt");
                    let other = source.example((i + 1) % source.len()).unwrap().completion;
                    refused_other += usize::from(verdict(&other) != Verdict::Correct);
                }
                // Yes and no are often shared, and so are small numbers.
                assert!(refused_other >= 10, "{} {}: {refused_other}", kind.name, judge.name());
            }
        }
    }
}

#[test]
fn completions_with_thoughts_show_the_work() {
    for (kind, more) in cases() {
        let source = open(kind.name, &format!("{more}\ntasks = 20\nformat = \"think\""), 1);
        for i in 0..source.len() {
            let completion = source.example(i).unwrap().completion;
            let rest = completion.strip_prefix("<think>").unwrap();
            let (work, answer) = rest.split_once("</think><answer>").unwrap();
            assert!(!work.is_empty() && answer.ends_with("</answer>"), "{completion}");
        }
    }
}

#[test]
fn parameters_out_of_range_are_named() {
    for (kind, more, field, part) in [
        ("addition", "min_digits = 0", "min_digits", "is 0 and must lie in 1 to 18"),
        ("addition", "min_digits = 3", "max_digits", "min_digits = 3 to 18"),
        ("addition", "tasks = 0", "tasks", "at least 1"),
        ("addition", "heldout_frac = 1.0", "heldout_frac", "between 0 and 1"),
        ("arithmetic", "min_operands = 1", "min_operands", "2 to 12"),
        ("arithmetic", "operators = \"+^\"", "operators", "some of +-*/"),
        ("arithmetic", "min_operands = 2\nmax_operands = 2\nparentheses = true", "parentheses", "3 or more"),
        ("base_conversion", "max_base = 17", "max_base", "to 16"),
        ("base_conversion", "min_base = 10\nmax_base = 10", "max_base", "two bases"),
        ("calendar", "min_year = 2050", "max_year", "min_year = 2050"),
        ("calendar", "max_days = 0", "max_days", "1 to 365"),
        ("countdown", "numbers = 7", "numbers", "2 to 6"),
        ("countdown", "max_target = 1", "max_target", "must lie in 2"),
        ("digits", "size = 11", "size", "16 to 512"),
        ("digits", "max_digits = 4\nsize = 20", "size", "24 to 512"),
        ("equation", "max_coefficient = 1", "max_coefficient", "2 to 1000"),
        ("facts", "facts = 20\npeople = 2", "facts", "at most 10 facts"),
        ("lab_panel", "days = 1", "days", "compare two days"),
        ("lab_panel", "days = 3", "size", "182 to 512"),
        ("lab_panel", "questions = []", "questions", "asks nothing"),
        ("letter_count", "letters = 27", "letters", "1 to 26"),
        ("logic", "depth = 9", "depth", "1 to 6"),
        ("lookup", "patients = 1", "patients", "2 to 12"),
        ("lookup", "analytes = 9", "analytes", "1 to 8"),
        ("reverse_text", "words = 5", "words", "1 to 4"),
        ("shapes", "max_objects = 5", "colours", "is 4 and must lie in 5 to 6"),
        ("shapes", "max_objects = 1", "questions", "asks for the count, which is 1 always"),
        ("shapes", "max_objects = 1", "questions", "one object that has the whole picture"),
        ("shapes", "noise = 65", "noise", "0 to 64"),
        ("shapes", "size = 15", "size", "16 to 512"),
        ("sorting", "min_length = 1", "min_length", "2 to 32"),
        ("sudoku", "max_blanks = 17", "max_blanks", "to 16"),
        ("unit_conversion", "max_decimals = 10", "max_decimals", "0 to 9"),
    ] {
        let problems: Vec<Problem> = config(kind, more).problems("data.t");
        let found = problems.iter().any(|p| p.field == format!("data.t.{field}") && p.message.contains(part));
        assert!(found, "{kind} {more}: {problems:?}");
    }
    for kind in kinds() {
        assert_eq!(config(kind.name, "").problems("data.t"), [], "{}", kind.name);
        assert!(toml::from_str::<DataConfig>(&format!("kind = {:?}\ntaks = 1", kind.name)).is_err());
    }
}

#[test]
fn kinds_describe_themselves() {
    for kind in kinds() {
        assert!(kind.about.len() > 30 && kind.about.ends_with('.'), "{kind:?}");
        assert!(kind.parameters.len() >= 2, "{kind:?}");
        assert_eq!(config(kind.name, "").generator().unwrap().kind(), kind.name);
        for p in &kind.parameters {
            assert!(p.about.ends_with('.') && p.default.is_some(), "{p:?}");
        }
    }
}
