//! 4x4 sudokus.

use serde_json::json;

use super::{Dice, Draw, Generator, check_range, generator};
use crate::checks::Checks;

generator! {
    /// 4x4 sudokus: fill a grid so that every row, column and 2x2 box has the digits 1 to 4. With many empty cells
    /// several grids are right, and the reward takes any. The work names the empty cells in order.
    "sudoku" => SudokuConfig judged by "sudoku" {
        /// Fewest empty cells, at least 1. Default 4.
        min_blanks: u64 = 4,
        /// Most empty cells, at most 16. Default 8.
        max_blanks: u64 = 8,
    }
    prompt "Fill the 4x4 sudoku, dots are empty cells:\n{{ rows | join('\\n') }}"
}

impl Generator for SudokuConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let blanks = [self.min_blanks, self.max_blanks];
        check_range(at, ["min_blanks", "max_blanks"], blanks, [1, 16], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let grid = solved(dice);
        let mut cells: Vec<usize> = (0..16).collect();
        dice.shuffle(&mut cells);
        let blanks = dice.between(self.min_blanks, self.max_blanks) as usize;
        let mut empty = cells[..blanks].to_vec();
        empty.sort_unstable();
        let digit = |at: usize| char::from(b'0' + grid[at]);
        let puzzle: String = (0..16).map(|at| if empty.contains(&at) { '.' } else { digit(at) }).collect();
        let rows = |shown: &dyn Fn(usize) -> char| -> Vec<String> {
            (0..4).map(|row| (0..4).map(|column| shown(4 * row + column)).collect()).collect()
        };
        let given: Vec<char> = puzzle.chars().collect();
        let work: Vec<String> =
            empty.iter().map(|at| format!("r{}c{}={}", at / 4 + 1, at % 4 + 1, digit(*at))).collect();
        let fields = json!({ "rows": rows(&|at| given[at]), "puzzle": puzzle });
        let reference = json!({ "puzzle": puzzle });
        Some(Draw::new(puzzle, fields, reference, work.join(","), rows(&digit).join(" ")))
    }
}

/// A right grid: one of two bands with digits renamed, bands, rows, stacks and columns swapped, and perhaps transposed.
fn solved(dice: &mut Dice) -> [u8; 16] {
    const GRIDS: [[u8; 16]; 2] =
        [[0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0], [0, 1, 2, 3, 2, 3, 0, 1, 1, 2, 3, 0, 3, 0, 1, 2]];
    let base = dice.pick(&GRIDS);
    let mut digits = [1, 2, 3, 4];
    dice.shuffle(&mut digits);
    let mut lines = || {
        let swaps = dice.between(0, 7) as usize;
        // Swap the bands, the lines of the first band, those of the second.
        let band = |i: usize| (i / 2) ^ (swaps & 1);
        std::array::from_fn::<usize, 4, _>(|i| 2 * band(i) + ((i % 2) ^ (swaps >> (1 + band(i)) & 1)))
    };
    let (rows, columns) = (lines(), lines());
    let transpose = dice.coin();
    std::array::from_fn(|at| {
        let (row, column) = if transpose { (at % 4, at / 4) } else { (at / 4, at % 4) };
        digits[usize::from(base[4 * rows[row] + columns[column]])]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_288_grids_are_drawn_and_right() {
        let mut found = HashSet::new();
        for number in 0..20_000 {
            let grid = solved(&mut Dice::new([1, 2, number]));
            let distinct =
                |cells: [usize; 4]| cells.iter().map(|c| grid[*c]).collect::<HashSet<_>>().len() == 4;
            for i in 0..4 {
                assert!(distinct([4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]), "{grid:?}");
                assert!(distinct([i, i + 4, i + 8, i + 12]), "{grid:?}");
                let corner = 8 * (i / 2) + 2 * (i % 2);
                assert!(distinct([corner, corner + 1, corner + 4, corner + 5]), "{grid:?}");
            }
            found.insert(grid);
        }
        assert_eq!(found.len(), 288);
    }
}
