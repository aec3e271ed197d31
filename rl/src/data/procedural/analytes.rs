//! Laboratory values as charts and panels have them.

use super::Dice;

pub(super) struct Analyte {
    pub(super) name: &'static str,
    /// What panels call it.
    pub(super) short: &'static str,
    pub(super) unit: &'static str,
    /// Lowest and highest value, in steps of the last digit.
    range: [u64; 2],
    /// Those of the healthy.
    pub(super) reference: [u64; 2],
    /// Whether the last digit is a tenth.
    tenths: bool,
}

const fn analyte(
    [name, short, unit]: [&'static str; 3],
    range: [u64; 2],
    reference: [u64; 2],
    tenths: bool,
) -> Analyte {
    Analyte { name, short, unit, range, reference, tenths }
}

/// Ranges that occur on wards, ill patients included, and those of the healthy.
pub(super) const ANALYTES: [Analyte; 8] = [
    analyte(["sodium", "NA", "mmol/L"], [120, 155], [135, 145], false),
    analyte(["potassium", "K", "mmol/L"], [25, 65], [35, 51], true),
    analyte(["glucose", "GLU", "mg/dL"], [45, 320], [70, 140], false),
    analyte(["hemoglobin", "HB", "g/dL"], [65, 175], [120, 165], true),
    analyte(["creatinine", "CREA", "mg/dL"], [5, 48], [6, 13], true),
    analyte(["calcium", "CA", "mg/dL"], [72, 128], [85, 105], true),
    analyte(["urea", "UREA", "mg/dL"], [10, 140], [17, 43], false),
    analyte(["albumin", "ALB", "g/dL"], [18, 52], [35, 50], true),
];

impl Analyte {
    pub(super) fn draw(&self, dice: &mut Dice) -> u64 {
        dice.between(self.range[0], self.range[1])
    }

    /// A value within the reference range, or one outside of it.
    pub(super) fn draw_within(&self, within: bool, dice: &mut Dice) -> u64 {
        let [low, high] = self.reference;
        if within {
            return dice.between(low, high);
        }
        let below = low - self.range[0];
        let at = dice.between(0, below + (self.range[1] - high) - 1);
        if at < below { self.range[0] + at } else { high + 1 + at - below }
    }

    pub(super) fn number(&self, value: u64) -> String {
        if self.tenths { format!("{}.{}", value / 10, value % 10) } else { value.to_string() }
    }

    /// The value as the chart has it.
    pub(super) fn text(&self, value: u64) -> String {
        format!("{} {} {}", self.name, self.number(value), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_drawn_on_the_side_that_is_asked_for() {
        for analyte in &ANALYTES {
            let [low, high] = analyte.reference;
            let mut sides = [false; 2];
            for number in 0..300 {
                let dice = &mut Dice::new([1, 2, number]);
                assert!((low..=high).contains(&analyte.draw_within(true, dice)));
                let outside = analyte.draw_within(false, dice);
                assert!(!(low..=high).contains(&outside), "{} {outside}", analyte.name);
                assert!((analyte.range[0]..=analyte.range[1]).contains(&outside));
                sides[usize::from(outside > high)] = true;
            }
            assert_eq!(sides, [true; 2], "{}", analyte.name);
        }
    }
}
