//! Questions about facts that stand in the prompt.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Looking up one of several facts that stand in the prompt; the others share its person or its kind. The work repeats
    /// the fact.
    "facts" => FactsConfig judged by "exact" {
        /// Number of facts, 2 to 40. Default 5.
        facts: usize = 5,
        /// How many people the facts are about at most, 1 to 16. Default 4.
        people: usize = 4,
    }
    prompt "{{ facts | join(' ') }} {{ question }}"
}

const NAMES: [&str; 16] = [
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Ned",
    "Olga", "Paul",
];

/// What is said, what is asked, and the possible values.
const RELATIONS: [(&str, &str, [&str; 10]); 5] = [
    (
        "lives in",
        "Where does {} live?",
        ["Oslo", "Rome", "Lima", "Cairo", "Paris", "Tokyo", "Delhi", "Quito", "Vienna", "Boston"],
    ),
    (
        "likes",
        "Which fruit does {} like?",
        ["apples", "pears", "plums", "grapes", "figs", "dates", "limes", "cherries", "mangos", "lemons"],
    ),
    (
        "plays the",
        "Which instrument does {} play?",
        ["piano", "violin", "flute", "drums", "guitar", "harp", "cello", "trumpet", "organ", "banjo"],
    ),
    (
        "works as a",
        "What is the job of {}?",
        ["baker", "nurse", "pilot", "farmer", "tailor", "judge", "painter", "teacher", "sailor", "miner"],
    ),
    (
        "wears something",
        "Which color does {} wear?",
        ["red", "blue", "green", "black", "white", "yellow", "pink", "brown", "gray", "purple"],
    ),
];

impl Generator for FactsConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "facts", self.facts as u64, [2, 40], checks);
        check_between(at, "people", self.people as u64, [1, NAMES.len() as u64], checks);
        let most = self.people.saturating_mul(RELATIONS.len());
        checks.require(
            self.facts <= most,
            format!("{at}.facts"),
            format!("is {}, but {} people have at most {most} facts", self.facts, self.people),
        );
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let mut names = NAMES;
        dice.shuffle(&mut names);
        let mut pairs: Vec<(&str, usize)> = names[..self.people]
            .iter()
            .flat_map(|name| (0..RELATIONS.len()).map(move |r| (*name, r)))
            .collect();
        dice.shuffle(&mut pairs);
        pairs.truncate(self.facts);
        let mut facts = Vec::with_capacity(pairs.len());
        let mut values = Vec::with_capacity(pairs.len());
        for (name, relation) in &pairs {
            let (verb, _, choices) = &RELATIONS[*relation];
            let value = *dice.pick(choices);
            facts.push(format!("{name} {verb} {value}."));
            values.push(value);
        }
        let asked = dice.index(pairs.len());
        let (name, relation) = pairs[asked];
        let question = RELATIONS[relation].1.replace("{}", name);
        // The order of the facts makes no other task.
        let mut sorted = facts.clone();
        sorted.sort_unstable();
        sorted.push(question.clone());
        let id = format!("{:016x}", random::hash_bytes(sorted.join("\n").as_bytes()));
        let fields = json!({ "facts": facts, "question": question });
        let answer = values[asked].to_owned();
        Some(Draw::new(id, fields, json!({ "answer": answer }), facts[asked].clone(), answer))
    }
}
