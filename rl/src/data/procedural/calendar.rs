//! Days of the week and dates some days away.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;

generator! {
    /// Calendar arithmetic in the Gregorian calendar: the day of the week of a date, or the date some days before or
    /// after another, as YYYY-MM-DD. The work counts days modulo 7, or goes from month to month.
    "calendar" => CalendarConfig judged by "exact" {
        /// `weekday`, `shift` (a date some days away) or `both`. Default `both`.
        question: CalendarQuestion = CalendarQuestion::Both,
        /// First year, at least 1600. Default 2000.
        min_year: u64 = 2000,
        /// Last year, at most 9998. Default 2030.
        max_year: u64 = 2030,
        /// Most days between two dates, 1 to 365. Default 60.
        max_days: u64 = 60,
    }
    prompt "{{ question }}"
}

/// What is asked about a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalendarQuestion {
    /// Its day of the week.
    Weekday,
    /// The date some days before or after.
    Shift,
    /// One or the other.
    Both,
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Generator for CalendarConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let years = [self.min_year, self.max_year];
        check_range(at, ["min_year", "max_year"], years, [1600, 9998], checks);
        check_between(at, "max_days", self.max_days, [1, 365], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let year = dice.between(self.min_year, self.max_year) as i64;
        let month = dice.between(1, 12) as i64;
        let date = Date { year, month, day: dice.between(1, month_days(year, month) as u64) as i64 };
        let weekday = match self.question {
            CalendarQuestion::Weekday => true,
            CalendarQuestion::Shift => false,
            CalendarQuestion::Both => dice.coin(),
        };
        Some(if weekday {
            date.ask_weekday()
        } else {
            date.ask_shift(dice.between(1, self.max_days) as i64, dice.coin())
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    fn text(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Days since 0000-03-01: years that begin in March have the leap day at their end.
    fn number(self) -> i64 {
        let (year, month) =
            if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + self.day - 1
    }

    fn ask_weekday(self) -> Draw {
        let known = Self { year: 2000, month: 1, day: 3 };
        let days = self.number() - known.number();
        let answer = WEEKDAYS[days.rem_euclid(7) as usize];
        let work = format!("2000-01-03 is a monday,{days} days later,{days} mod 7={}", days.rem_euclid(7));
        let fields =
            json!({ "question": format!("What day of the week is {}?", self.text()), "date": self.text() });
        Draw::new(
            format!("weekday-{}", self.text()),
            fields,
            json!({ "answer": answer }),
            work,
            answer.to_owned(),
        )
    }

    fn ask_shift(self, days: i64, later: bool) -> Draw {
        let (mut at, mut left) = (self, days);
        let mut work = Vec::new();
        loop {
            let room = if later { month_days(at.year, at.month) - at.day } else { at.day - 1 };
            if left <= room {
                at.day += if later { left } else { -left };
                break;
            }
            left -= room + 1;
            let month = at.year * 12 + at.month - 1 + if later { 1 } else { -1 };
            (at.year, at.month) = (month / 12, month % 12 + 1);
            at.day = if later { 1 } else { month_days(at.year, at.month) };
            work.push(format!("{} with {left} left", at.text()));
        }
        work.push(at.text());
        let word = if later { "after" } else { "before" };
        let unit = if days == 1 { "day" } else { "days" };
        let question = format!("What date is {days} {unit} {word} {}?", self.text());
        let fields = json!({ "question": question, "date": self.text(), "days": days });
        let id = format!("{}-{word}-{days}", self.text());
        Draw::new(id, fields, json!({ "answer": at.text() }), work.join(","), at.text())
    }
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i64, month: i64, day: i64) -> Date {
        Date { year, month, day }
    }

    #[test]
    fn known_days() {
        for (date, want) in [
            (date(1969, 7, 20), "sunday"),
            (date(2000, 2, 29), "tuesday"),
            (date(1900, 3, 1), "thursday"),
            (date(2024, 2, 29), "thursday"),
            (date(2100, 3, 1), "monday"),
        ] {
            assert_eq!(date.ask_weekday().answer, want, "{date:?}");
        }
        for (from, days, later, want) in [
            (date(2024, 2, 28), 2, true, "2024-03-01"),
            (date(2023, 2, 28), 1, true, "2023-03-01"),
            (date(2024, 1, 1), 1, false, "2023-12-31"),
            (date(2023, 12, 31), 365, true, "2024-12-30"),
            (date(2024, 3, 1), 366, false, "2023-03-01"),
        ] {
            assert_eq!(from.ask_shift(days, later).answer, want, "{from:?}");
        }
    }

    #[test]
    fn shifts_agree_with_the_day_count() {
        for year in 1999..2005 {
            for month in 1..=12 {
                let from = date(year, month, 28);
                for days in [1, 3, 31, 59, 365] {
                    let read =
                        |text: &str| -> Vec<i64> { text.split('-').map(|p| p.parse().unwrap()).collect() };
                    for later in [true, false] {
                        let to = read(&from.ask_shift(days, later).answer);
                        let moved = date(to[0], to[1], to[2]).number() - from.number();
                        assert_eq!(moved, if later { days } else { -days }, "{from:?} {days}");
                    }
                }
            }
        }
    }
}
