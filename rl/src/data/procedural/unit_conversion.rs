//! Quantities in another unit.

use serde_json::{Value, json};

use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;

generator! {
    /// Quantities of length, mass, volume and time in another unit of the same system; answers end after few decimals. The
    /// work states the factor, then multiplies or divides.
    "unit_conversion" => UnitConversionConfig judged by "numeric" {
        /// Largest quantity, 1 to 1000000. Default 100.
        max_number: u64 = 100,
        /// Most decimals of an answer, up to 9. Default 3.
        max_decimals: u32 = 3,
        /// Whether inches, feet, yards, miles, ounces and pounds occur. Default true.
        imperial: bool = true,
    }
    prompt "Convert {{ number }} {{ from }} to {{ to }}."
}

/// Systems of units, each in multiples of its smallest; the imperial ones come last.
const SYSTEMS: [&[(&str, u64)]; 6] = [
    &[("mm", 1), ("cm", 10), ("m", 1000), ("km", 1_000_000)],
    &[("mg", 1), ("g", 1000), ("kg", 1_000_000), ("t", 1_000_000_000)],
    &[("ml", 1), ("cl", 10), ("dl", 100), ("l", 1000)],
    &[("seconds", 1), ("minutes", 60), ("hours", 3600), ("days", 86400), ("weeks", 604_800)],
    &[("inches", 1), ("feet", 12), ("yards", 36), ("miles", 63360)],
    &[("ounces", 1), ("pounds", 16)],
];
const METRIC: usize = 4;

impl Generator for UnitConversionConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "max_number", self.max_number, [1, 1_000_000], checks);
        check_between(at, "max_decimals", self.max_decimals.into(), [0, 9], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let system = *dice.pick(if self.imperial { &SYSTEMS[..] } else { &SYSTEMS[..METRIC] });
        let number = dice.between(1, self.max_number);
        let ((from, above), (to, below)) = (*dice.pick(system), *dice.pick(system));
        if from == to {
            return None;
        }
        let (value, answer) = decimal(number * above, below, self.max_decimals)?;
        let work = if above > below {
            let factor = above / below;
            (above % below == 0).then(|| format!("1 {from} is {factor} {to},{number}*{factor}={answer}"))?
        } else {
            let factor = below / above;
            (below % above == 0).then(|| format!("1 {to} is {factor} {from},{number}/{factor}={answer}"))?
        };
        let fields = json!({ "number": number, "from": from, "to": to });
        let id = format!("{number}-{from}-{to}");
        Some(Draw::new(id, fields, json!({ "answer": value }), work, answer))
    }
}

/// `above/below` as a number and as text; none where it needs more decimals.
fn decimal(above: u64, below: u64, max_decimals: u32) -> Option<(Value, String)> {
    let scale = 10_u128.pow(max_decimals);
    let scaled = u128::from(above) * scale;
    if !scaled.is_multiple_of(u128::from(below)) {
        return None;
    }
    let scaled = scaled / u128::from(below);
    let (whole, part) = (scaled / scale, scaled % scale);
    if part == 0 {
        return Some((json!(u64::try_from(whole).ok()?), whole.to_string()));
    }
    let digits = format!("{part:0width$}", width = max_decimals as usize);
    let text = format!("{whole}.{}", digits.trim_end_matches('0'));
    Some((json!(text.parse::<f64>().ok()?), text))
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimals_end() {
        let text =
            |above, below, most| decimal(above, below, most).map(|(value, text)| (value.to_string(), text));
        let same = |s: &str| Some((s.to_owned(), s.to_owned()));
        assert_eq!(text(3_000_000, 1000, 3), same("3000"));
        assert_eq!(text(5, 2, 3), same("2.5"));
        assert_eq!(text(3, 1000, 3), same("0.003"));
        assert_eq!(text(3, 1000, 2), None);
        assert_eq!(text(1, 3, 9), None);
        assert_eq!(text(10, 5, 0), same("2"));
    }
}
