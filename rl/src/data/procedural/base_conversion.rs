//! Numbers written in another base.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;

generator! {
    /// Numbers from one base to another, digits 0-9 and a-f. The work goes by way of the value: Horner's scheme, then
    /// divisions with remainder.
    "base_conversion" => BaseConversionConfig judged by "exact" {
        /// Smallest base, at least 2. Default 2.
        min_base: u32 = 2,
        /// Largest base, at most 16. Default 16.
        max_base: u32 = 16,
        /// Largest number, 1 to 1000000000000. Default 255.
        max_number: u64 = 255,
    }
    prompt "{{ digits }} from base {{ from }} to base {{ to }}="
}

impl Generator for BaseConversionConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let bases = [self.min_base.into(), self.max_base.into()];
        check_range(at, ["min_base", "max_base"], bases, [2, 16], checks);
        checks.require(
            self.max_base > self.min_base,
            format!("{at}.max_base"),
            "must be above min_base: two bases are needed",
        );
        check_between(at, "max_number", self.max_number, [1, 1_000_000_000_000], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let value = dice.between(1, self.max_number);
        let (low, high) = (u64::from(self.min_base), u64::from(self.max_base));
        let (from, to) = (dice.between(low, high), dice.between(low, high));
        if from == to {
            return None;
        }
        let (digits, answer) = (write(value, from), write(value, to));
        let mut work = Vec::new();
        if from != 10 {
            let mut sum = 0;
            for digit in digits.chars().filter_map(|c| c.to_digit(16)) {
                let next = sum * from + u64::from(digit);
                work.push(format!("{sum}*{from}+{digit}={next}"));
                sum = next;
            }
        }
        if to != 10 {
            let mut rest = value;
            while rest > 0 {
                work.push(format!("{rest}/{to}={} r {}", rest / to, rest % to));
                rest /= to;
            }
        }
        let fields = json!({ "digits": digits, "from": from, "to": to });
        let id = format!("{digits}-{from}-{to}");
        Some(Draw::new(id, fields, json!({ "answer": answer }), work.join(","), answer))
    }
}

/// The digits of a value in a base up to 16.
fn write(mut value: u64, base: u64) -> String {
    let mut digits = Vec::new();
    while value > 0 || digits.is_empty() {
        digits.push(char::from(b"0123456789abcdef"[(value % base) as usize]));
        value /= base;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_in_bases() {
        for (value, base, digits) in [(10, 2, "1010"), (255, 16, "ff"), (0, 7, "0"), (100, 3, "10201")] {
            assert_eq!(super::write(value, base), digits);
            assert_eq!(u64::from_str_radix(digits, base as u32), Ok(value));
        }
    }
}
