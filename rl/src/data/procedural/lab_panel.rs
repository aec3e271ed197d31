//! Panels of laboratory values as pictures, with a question about one of the values.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::analytes::{ANALYTES, Analyte};
use super::canvas::{Canvas, MAX_NOISE};
use super::font::GLYPH;
use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Reading a panel of laboratory values that is a picture: a value, the day of the highest or lowest one, or whether one is
    /// within the range that stands beside it. Nothing needs to be known but what the panel's short names mean, and the question
    /// says that.
    "lab_panel" => LabPanelConfig judged by "exact" {
        /// What is asked, some of `value`, `highest`, `lowest` and `range`. Default all.
        questions: Vec<PanelQuestion> =
            vec![PanelQuestion::Value, PanelQuestion::Highest, PanelQuestion::Lowest, PanelQuestion::Range],
        /// Rows of values, 1 to 8. Default 4.
        analytes: usize = 4,
        /// Columns of values, 1 to 4. Default 2.
        days: usize = 2,
        /// Pixels a side; 160 are enough for two days. Default 160.
        size: usize = 160,
        /// How far noise may move a level, 0 to 64. Default 8.
        noise: u64 = 8,
        /// Whether the pictures are grey, which shows what can be answered without seeing. Default false.
        blank: bool = false,
    }
    prompt "{{ question }}"
}

/// What is asked about a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PanelQuestion {
    /// A value.
    Value,
    /// The day of the highest value.
    Highest,
    /// The day of the lowest value.
    Lowest,
    /// Whether a value is within its range.
    Range,
}

/// Characters of the columns: names, a day, ranges; pixels of a line, and around the panel at least.
const NAME: usize = 5;
const DAY: usize = 5;
const RANGE: usize = 9;
const LINE: usize = GLYPH.1 + 3;
const MARGIN: usize = 4;
const PAPER: [u8; 3] = [240; 3];
const INK: [u8; 3] = [25, 25, 40];

impl LabPanelConfig {
    /// Pixels that the panel takes, across and down.
    fn needs(&self) -> [usize; 2] {
        let columns = NAME + DAY * self.days.min(4) + RANGE;
        [columns * (GLYPH.0 + 1) + 2 * MARGIN, (self.analytes.min(8) + 1) * LINE + 2 * MARGIN]
    }
}

/// The lines of a panel.
fn lines(kinds: &[&Analyte], values: &[Vec<u64>]) -> Vec<String> {
    let days = values.first().map_or(0, Vec::len);
    let column = |text: String| format!("{text:<DAY$}");
    let head: String = (1..=days).map(|day| column(day.to_string())).collect();
    let row = |(kind, values): (&&Analyte, &Vec<u64>)| {
        let values: String = values.iter().map(|value| column(kind.number(*value))).collect();
        let [low, high] = kind.reference.map(|value| kind.number(value));
        format!("{:<NAME$}{values}{low}-{high}", kind.short)
    };
    std::iter::once(format!("{:<NAME$}{head}RANGE", "DAY")).chain(kinds.iter().zip(values).map(row)).collect()
}

impl Generator for LabPanelConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "analytes", self.analytes as u64, [1, ANALYTES.len() as u64], checks);
        check_between(at, "days", self.days as u64, [1, 4], checks);
        check_between(at, "noise", self.noise, [0, MAX_NOISE], checks);
        let needed = self.needs()[0].max(self.needs()[1]);
        checks.require(
            (needed..=512).contains(&self.size),
            format!("{at}.size"),
            format!(
                "is {} and must lie in {needed} to 512 for {} rows of {} days",
                self.size, self.analytes, self.days
            ),
        );
        checks.require(!self.questions.is_empty(), format!("{at}.questions"), "asks nothing");
        let compares =
            self.questions.iter().any(|q| matches!(q, PanelQuestion::Highest | PanelQuestion::Lowest));
        checks.require(
            !compares || self.days > 1,
            format!("{at}.days"),
            "is 1: `highest` and `lowest` compare two days at least; take them out of `questions`, or set days = 2",
        );
    }

    fn is_blank(&self) -> bool {
        self.blank
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let question = *dice.pick(&self.questions);
        let mut kinds = ANALYTES.each_ref();
        dice.shuffle(&mut kinds);
        let kinds = &kinds[..self.analytes];
        let mut values: Vec<Vec<u64>> =
            kinds.iter().map(|kind| (0..self.days).map(|_| kind.draw(dice)).collect()).collect();
        let (asked, day) = (dice.index(self.analytes), dice.index(self.days));
        let kind = kinds[asked];
        let within = dice.coin();
        if question == PanelQuestion::Range {
            values[asked][day] = kind.draw_within(within, dice);
        }
        let (row, value) = (&values[asked], values[asked][day]);
        let name = format!("{} ({})", kind.name, kind.short);
        let of_day = if self.days > 1 { format!(" of day {}", day + 1) } else { String::new() };
        let extreme = |most: Option<&u64>| {
            let holders: Vec<usize> = (0..row.len()).filter(|i| Some(&row[*i]) == most).collect();
            let [holder] = holders[..] else { return None };
            Some(holder + 1)
        };
        let compared = |word: &str, day: usize| {
            let accepted = json!([day.to_string(), format!("day {day}")]);
            (format!("On which day is the {name} {word}?"), day.to_string(), accepted)
        };
        let (question, answer, accepted): (String, String, Value) = match question {
            PanelQuestion::Value => {
                let number = kind.number(value);
                let accepted = json!([number, format!("{number} {}", kind.unit)]);
                (format!("What is the {name}{of_day} in {}?", kind.unit), number, accepted)
            }
            PanelQuestion::Highest => compared("highest", extreme(row.iter().max())?),
            PanelQuestion::Lowest => compared("lowest", extreme(row.iter().min())?),
            PanelQuestion::Range => {
                let answer = if within { "yes" } else { "no" };
                (format!("Is the {name}{of_day} within its range?"), answer.to_owned(), json!(answer))
            }
        };
        let lines = lines(kinds, &values);
        let place = |room: usize, dice: &mut Dice| {
            dice.between(MARGIN as u64, (self.size - room + MARGIN) as u64) as i64
        };
        let [across, down] = self.needs();
        let at = (place(across, dice), place(down, dice));
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        let side = random::hash_bytes(sorted.join("\n").as_bytes());
        let id = format!("{:016x}", random::word(&[side, random::hash_bytes(question.as_bytes())]));
        let work = lines[asked + 1].split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = json!({ "question": question });
        let draw = Draw::new(id, fields, json!({ "answer": accepted }), work, answer);
        let (size, noise) = (self.size, self.noise);
        Some(Draw { side, ..draw }.showing(move || {
            let mut canvas = Canvas::new(size, PAPER);
            for (i, line) in lines.iter().enumerate() {
                canvas.write(line, (at.0, at.1 + (i * LINE) as i64), 1, INK);
            }
            canvas.noisy(noise, random::word(&[side, at.0 as u64, at.1 as u64]))
        }))
    }
}
