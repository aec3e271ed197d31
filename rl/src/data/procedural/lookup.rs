//! Questions about laboratory values of several patients in a chart that stands in the prompt.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::analytes::ANALYTES;
use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Reading a short chart of laboratory values: the value of one patient, or the patient with the highest or lowest
    /// one. Nothing needs to be known, everything stands in the prompt. The work repeats what was read.
    "lookup" => LookupConfig judged by "exact" {
        /// `value`, `compare` (who has the highest or lowest value) or `both`. Default `both`.
        question: LookupQuestion = LookupQuestion::Both,
        /// Patients in the chart, 2 to 12. Default 3.
        patients: usize = 3,
        /// Values of each patient, 1 to 8. Default 2.
        analytes: usize = 2,
        /// Whether an earlier value of what is asked stands below the chart. Default false.
        distractor: bool = false,
    }
    prompt "{{ chart }}\n\n{{ question }}"
}

/// What is asked about a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupQuestion {
    /// The value of one patient.
    Value,
    /// The patient with the highest or the lowest value.
    Compare,
    /// One or the other.
    Both,
}

const NAMES: [&str; 16] = [
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Ned",
    "Olga", "Paul",
];

impl Generator for LookupConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "patients", self.patients as u64, [2, 12], checks);
        check_between(at, "analytes", self.analytes as u64, [1, ANALYTES.len() as u64], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let (mut names, mut kinds) = (NAMES, ANALYTES.each_ref());
        dice.shuffle(&mut names);
        dice.shuffle(&mut kinds);
        let (names, kinds) = (&names[..self.patients], &kinds[..self.analytes]);
        let values: Vec<Vec<u64>> =
            names.iter().map(|_| kinds.iter().map(|kind| kind.draw(dice)).collect()).collect();
        let (patient, asked) = (dice.index(names.len()), dice.index(kinds.len()));
        let kind = kinds[asked];
        let column: Vec<u64> = values.iter().map(|row| row[asked]).collect();
        let compare = match self.question {
            LookupQuestion::Value => false,
            LookupQuestion::Compare => true,
            LookupQuestion::Both => dice.coin(),
        };
        let (question, work, answer, accepted) = if compare {
            let highest = dice.coin();
            let (most, word) =
                if highest { (column.iter().max()?, "highest") } else { (column.iter().min()?, "lowest") };
            let holders: Vec<usize> = (0..column.len()).filter(|i| column[*i] == *most).collect();
            let [holder] = holders[..] else { return None };
            let all: Vec<String> = names
                .iter()
                .zip(&column)
                .map(|(name, value)| format!("{name} {}", kind.number(*value)))
                .collect();
            let question = format!("Who has the {word} {}?", kind.name);
            let name = names[holder].to_owned();
            (question, format!("{}: {}", kind.name, all.join(", ")), name.clone(), json!(name))
        } else {
            let name = names[patient];
            let question = format!("What is the {} of {name} in {}?", kind.name, kind.unit);
            let number = kind.number(column[patient]);
            // The unit may be repeated.
            let accepted = json!([number, format!("{number} {}", kind.unit)]);
            (question, format!("{name}: {}", kind.text(column[patient])), number, accepted)
        };
        let mut lines: Vec<String> = names
            .iter()
            .zip(&values)
            .map(|(name, row)| {
                let row: Vec<String> = kinds.iter().zip(row).map(|(kind, value)| kind.text(*value)).collect();
                format!("{name}: {}", row.join(", "))
            })
            .collect();
        if self.distractor {
            let earlier = kind.draw(dice);
            if earlier == column[patient] {
                return None;
            }
            lines.push(format!("Last week {} had {}.", names[patient], kind.text(earlier)));
        }
        // The order of the patients makes no other task.
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        sorted.push(question.clone());
        let id = format!("{:016x}", random::hash_bytes(sorted.join("\n").as_bytes()));
        let fields = json!({ "chart": lines.join("\n"), "question": question });
        Some(Draw::new(id, fields, json!({ "answer": accepted }), work, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the chart alone would answer.
    fn read(chart: &str, question: &str) -> String {
        let words: Vec<&str> = question.trim_end_matches('?').split(' ').collect();
        let value = |line: &str, name: &str| {
            let (_, values) = line.split_once(": ").unwrap();
            let found = values.split(", ").find_map(|v| v.strip_prefix(&format!("{name} ")));
            found.unwrap().split(' ').next().unwrap().to_owned()
        };
        let rows = chart.lines().filter(|line| !line.starts_with("Last week"));
        if words[0] == "What" {
            let line = rows.into_iter().find(|line| line.starts_with(&format!("{}:", words[5]))).unwrap();
            return value(line, words[3]);
        }
        let number = |line: &&str| value(line, words[4]).parse::<f64>().unwrap();
        let best = match words[3] {
            "highest" => rows.max_by(|a, b| number(a).total_cmp(&number(b))),
            _ => rows.min_by(|a, b| number(a).total_cmp(&number(b))),
        };
        best.unwrap().split(':').next().unwrap().to_owned()
    }

    #[test]
    fn the_answer_stands_in_the_chart() {
        for (question, distractor) in [
            (LookupQuestion::Value, true),
            (LookupQuestion::Compare, false),
            (LookupQuestion::Compare, true),
            (LookupQuestion::Both, false),
        ] {
            let config = LookupConfig { question, distractor, analytes: 3, ..LookupConfig::default() };
            let draws: Vec<Draw> = (0..200).filter_map(|n| config.draw(&mut Dice::new([1, 2, n]))).collect();
            assert!(draws.len() > 100, "{question:?}");
            for draw in &draws {
                let (chart, asked) =
                    (draw.fields["chart"].as_str().unwrap(), draw.fields["question"].as_str().unwrap());
                assert_eq!(draw.answer, read(chart, asked), "{chart}\n{asked}");
                assert_eq!(chart.contains("Last week"), distractor);
            }
        }
    }
}
