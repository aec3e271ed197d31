//! `sudoku`: a filled grid that keeps the given cells and repeats nothing in a row, column or box.
//!
//! `reference.puzzle` is the grid row by row: 16 cells (4x4, digits 1 to 4) or 81 (9x9), with `.`, `_` or `0` for an
//! empty one; white space is ignored. Any right grid counts, whether or not the puzzle has only one.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Checked, judge};
use crate::answer::extract::{MultiAnswer, Think};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Cells that the solver fills before it gives up.
const SOLVER_STEPS: u32 = 50_000;

/// Settings of the `sudoku` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SudokuConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `sudoku` reward.
pub struct Sudoku {
    config: SudokuConfig,
}

impl Sudoku {
    /// The reward with these settings.
    pub fn new(config: SudokuConfig) -> Self {
        Self { config }
    }
}

impl Reward for Sudoku {
    fn name(&self) -> &str {
        "sudoku"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let puzzle = match Grid::of(task) {
            Ok(puzzle) => puzzle,
            Err(error) => return Ok(Outcome::of(Verdict::Unverifiable, "sudoku", error.to_string())),
        };
        let SudokuConfig { multi_answer, think } = self.config;
        Ok(judge("sudoku", response, multi_answer, think, |text| puzzle.check(text)).with_gold(puzzle.text()))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let solved = Grid::of(task).ok()?.solved()?;
        Some(format!("<answer>{}</answer>", solved.text()))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        let puzzle = Grid::of(task)?;
        match puzzle.solved() {
            Some(_) => Ok(()),
            None => Err(bad(&puzzle.text(), "no solution was found")),
        }
    }
}

fn bad(gold: &str, reason: &str) -> TaskError {
    TaskError::BadGold { reward: "sudoku".into(), gold: gold.into(), reason: reason.into() }
}

/// A square of `side` by `side` cells, 0 for an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grid {
    cells: Vec<u8>,
    side: usize,
    inner: usize,
}

impl Grid {
    fn of(task: &Task) -> Result<Self, TaskError> {
        let text = task.reference.get("puzzle").and_then(|p| p.as_str());
        let text =
            text.ok_or_else(|| TaskError::MissingField { reward: "sudoku".into(), field: "puzzle" })?;
        let cells: Option<Vec<u8>> = (text.chars().filter(|c| !c.is_whitespace()).take(82))
            .map(|c| if matches!(c, '.' | '_') { Some(0) } else { c.to_digit(10).map(|d| d as u8) })
            .collect();
        let (side, inner) = match cells.as_ref().map(Vec::len) {
            Some(16) => (4, 2),
            Some(81) => (9, 3),
            _ => return Err(bad(text, "it needs 16 or 81 cells of digits, `.`, `_` or `0`")),
        };
        let grid = Self { cells: cells.unwrap_or_default(), side, inner };
        match grid.conflict() {
            Some(why) => Err(bad(text, &why)),
            None => Ok(grid),
        }
    }

    fn text(&self) -> String {
        self.cells.iter().map(|c| if *c == 0 { '.' } else { char::from(b'0' + c) }).collect()
    }

    /// The row, column and box of a cell, each numbered within its kind.
    fn units(&self, at: usize) -> [usize; 3] {
        let (row, column) = (at / self.side, at % self.side);
        [row, column, row / self.inner * self.inner + column / self.inner]
    }

    /// What breaks the rules: a digit out of range or one that repeats.
    fn conflict(&self) -> Option<String> {
        let mut seen = [[0_u16; 9]; 3];
        for (at, &digit) in self.cells.iter().enumerate() {
            if usize::from(digit) > self.side {
                return Some(format!("{digit} is no digit from 1 to {}", self.side));
            }
            if digit == 0 {
                continue;
            }
            for (kind, unit) in self.units(at).into_iter().enumerate() {
                let bit = 1 << digit;
                if seen[kind][unit] & bit != 0 {
                    let name = ["row", "column", "box"][kind];
                    return Some(format!("{digit} stands twice in {name} {}", unit + 1));
                }
                seen[kind][unit] |= bit;
            }
        }
        None
    }

    fn check(&self, text: &str) -> Result<Checked, Cow<'static, str>> {
        let frame =
            |c: char| c.is_whitespace() || matches!(c, '|' | '-' | '+' | ',' | '[' | ']' | '=' | '`' | '*');
        let mut cells = Vec::with_capacity(self.cells.len());
        for c in text.chars() {
            match c.to_digit(10) {
                Some(digit) if cells.len() < self.cells.len() => cells.push(digit as u8),
                Some(_) => return Err(format!("has more than {} digits", self.cells.len()).into()),
                None if frame(c) => {}
                None => return Err("is no grid of digits".into()),
            }
        }
        if cells.len() < self.cells.len() {
            return Err(format!("has {} of {} digits", cells.len(), self.cells.len()).into());
        }
        let grid = Self { cells, ..self.clone() };
        let prediction = grid.text();
        let empty = grid.cells.contains(&0).then(|| "a cell is 0".to_owned());
        let changed = || {
            let differs = |(given, found): (&u8, &u8)| *given != 0 && given != found;
            let at = self.cells.iter().zip(&grid.cells).position(differs)?;
            Some(format!(
                "changes the given cell in row {} column {}",
                at / self.side + 1,
                at % self.side + 1
            ))
        };
        let wrong = empty.or_else(changed).or_else(|| grid.conflict()).map(Cow::Owned);
        Ok(Checked { prediction, wrong })
    }

    /// A solution, by filling the cell with the fewest choices first.
    fn solved(&self) -> Option<Self> {
        let mut grid = self.clone();
        let mut steps = 0;
        grid.fill(&mut steps).then_some(grid)
    }

    /// Recurses once a cell, at most 81 deep.
    fn fill(&mut self, steps: &mut u32) -> bool {
        let empty = (0..self.cells.len()).filter(|at| self.cells[*at] == 0);
        let Some((at, choices)) = empty.map(|at| (at, self.choices(at))).min_by_key(|(_, c)| c.count_ones())
        else {
            return true;
        };
        for digit in (1..=self.side as u8).filter(|d| choices >> d & 1 == 1) {
            *steps += 1;
            if *steps > SOLVER_STEPS {
                return false;
            }
            self.cells[at] = digit;
            if self.fill(steps) {
                return true;
            }
        }
        self.cells[at] = 0;
        false
    }

    /// Bits of the digits that may stand in a cell.
    fn choices(&self, at: usize) -> u16 {
        let units = self.units(at);
        let taken = (self.cells.iter().enumerate())
            .filter(|(other, _)| self.units(*other).iter().zip(&units).any(|(a, b)| a == b))
            .fold(0_u16, |bits, (_, digit)| bits | 1 << digit);
        !taken & ((1 << (self.side + 1)) - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn grids() {
        let reward = Sudoku::new(SudokuConfig::default());
        let task = Task::new("t", json!({"puzzle": "1... .4.. ..1. ...3"}));
        let check = |text: &str, want| {
            let outcome = score_one(&reward, &task, Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?}: {}", outcome.reason);
        };
        let gold = reward.gold(&task).unwrap();
        check(&gold, Verdict::Correct);
        let digits: Vec<char> = gold.chars().filter(char::is_ascii_digit).collect();
        let rows = digits.chunks(4).map(|r| r.iter().collect::<String>()).collect::<Vec<_>>();
        check(&rows.join("\n"), Verdict::Correct);
        check(&format!("<answer>\n{}\n</answer>", rows.join("\n")), Verdict::Correct);
        check(&rows.concat(), Verdict::Correct);
        check(&format!("| {} |", rows.join(" |\n| ")), Verdict::Correct);
        for at in 0..16 {
            let mut wrong = digits.clone();
            wrong[at] = if wrong[at] == '4' { '1' } else { '4' };
            check(&wrong.iter().collect::<String>(), Verdict::Incorrect);
        }
        check("1... .4.. ..1. ...3", Verdict::NoAnswer);
        check("<answer>1234</answer>", Verdict::Incorrect);
        check(&format!("<answer>{}1</answer>", rows.concat()), Verdict::Incorrect);
        // A right grid of another puzzle.
        check("<answer>2143 3412 1234 4321</answer>", Verdict::Incorrect);
        check("", Verdict::NoAnswer);
    }

    #[test]
    fn references() {
        let reward = Sudoku::new(SudokuConfig::default());
        let check = |puzzle: &str, want: &str| {
            let error =
                reward.check_task(&Task::new("t", json!({ "puzzle": puzzle }))).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check("1234", "16 or 81");
        check("11.. .... .... ....", "twice in row 1");
        check("1... .1.. .... ....", "twice in box 1");
        check("5... .... .... ....", "no digit from 1 to 4");
        check("123. ...4 .... ....", "no solution");
        assert!(reward.check_task(&Task::new("t", json!({}))).is_err());
        let nine =
            "53..7.... 6..195... .98....6. 8...6...3 4..8.3..1 7...2...6 .6....28. ...419..5 ....8..79";
        let task = Task::new("t", json!({ "puzzle": nine }));
        let gold = reward.gold(&task).unwrap();
        assert!(
            gold.contains(
                "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
            )
        );
        assert_eq!(score_one(&reward, &task, Response::new(&gold)).verdict, Verdict::Correct);
    }
}
