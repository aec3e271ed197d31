//! `datetime.strftime` in UTC and the C locale, with the flags of glibc.

use super::Res;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment in UTC.
struct Moment {
    seconds: u64,
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From 0.
    day_of_year: u64,
    /// From 0, which is Sunday.
    weekday: u64,
}

impl Moment {
    fn of(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        let (mut year, mut day) = (1970, days);
        while day >= 365 + u64::from(leap(year)) {
            day -= 365 + u64::from(leap(year));
            year += 1;
        }
        let day_of_year = day;
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        Self { seconds, year, month, day: day + 1, day_of_year, weekday: (days + 4) % 7 }
    }

    /// The year and week of ISO 8601.
    fn iso_week(&self) -> (u64, u64) {
        let from_monday = (self.weekday + 6) % 7;
        // The year to which this week's Thursday belongs.
        let thursday = Self::of((self.seconds / 86_400 + 3 - from_monday) * 86_400);
        (thursday.year, thursday.day_of_year / 7 + 1)
    }
}

/// Seconds since 1970 by a format of `strftime`. A conversion that C does not know stays as it is.
pub(super) fn strftime(seconds: u64, format: &str) -> Res<String> {
    let moment = Moment::of(seconds);
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let conversion = &rest[at..];
        let flag = conversion[1..].chars().next().filter(|c| matches!(c, '-' | '_' | '0' | '^' | '#'));
        let name = conversion[1 + usize::from(flag.is_some())..].chars().next();
        let length = 1 + usize::from(flag.is_some()) + name.map_or(0, char::len_utf8);
        rest = &conversion[length..];
        match name.and_then(|name| convert(&moment, name, flag)) {
            Some(text) if flag == Some('^') => out.push_str(&text.to_uppercase()),
            Some(text) => out.push_str(&text),
            None => out.push_str(&conversion[..length]),
        }
        if out.len() > 1 << 20 {
            return Err("a date is too long".into());
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn convert(moment: &Moment, name: char, flag: Option<char>) -> Option<String> {
    let time = moment.seconds % 86_400;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let (year, month, day) = (moment.year, moment.month as u64 + 1, moment.day);
    let half = if hour < 12 { "AM" } else { "PM" };
    let number = |n: u64, width: usize, pad: char| {
        let pad = match flag {
            Some('-') => None,
            Some('_') => Some(' '),
            Some('0') => Some('0'),
            _ => Some(pad),
        };
        let digits = n.to_string();
        let missing = width.saturating_sub(digits.len());
        pad.map_or(digits.clone(), |pad| pad.to_string().repeat(missing) + &digits)
    };
    let day_name = DAYS[moment.weekday as usize];
    let month_name = MONTHS[moment.month];
    let date = || format!("{month:02}/{day:02}/{:02}", year % 100);
    let clock = || format!("{hour:02}:{minute:02}:{second:02}");
    Some(match name {
        'Y' => year.to_string(),
        'C' => number(year / 100, 2, '0'),
        'y' => number(year % 100, 2, '0'),
        'm' => number(month, 2, '0'),
        'd' => number(day, 2, '0'),
        'e' => number(day, 2, ' '),
        'j' => number(moment.day_of_year + 1, 3, '0'),
        'H' => number(hour, 2, '0'),
        'k' => number(hour, 2, ' '),
        'I' => number(hour12, 2, '0'),
        'l' => number(hour12, 2, ' '),
        'M' => number(minute, 2, '0'),
        'S' => number(second, 2, '0'),
        's' => moment.seconds.to_string(),
        'f' => "000000".into(),
        'u' => (if moment.weekday == 0 { 7 } else { moment.weekday }).to_string(),
        'w' => moment.weekday.to_string(),
        'U' => number((moment.day_of_year + 7 - moment.weekday) / 7, 2, '0'),
        'W' => number((moment.day_of_year + 7 - (moment.weekday + 6) % 7) / 7, 2, '0'),
        'V' => number(moment.iso_week().1, 2, '0'),
        'G' => moment.iso_week().0.to_string(),
        'g' => number(moment.iso_week().0 % 100, 2, '0'),
        'B' => month_name.into(),
        'b' | 'h' => month_name[..3].into(),
        'A' => day_name.into(),
        'a' => day_name[..3].into(),
        'p' if flag == Some('#') => half.to_lowercase(),
        'p' => half.into(),
        'P' => half.to_lowercase(),
        'F' => format!("{year}-{month:02}-{day:02}"),
        'T' | 'X' => clock(),
        'R' => format!("{hour:02}:{minute:02}"),
        'r' => format!("{hour12:02}:{minute:02}:{second:02} {half}"),
        'D' | 'x' => date(),
        'c' => format!("{} {} {day:2} {} {year}", &day_name[..3], &month_name[..3], clock()),
        'Z' | 'z' => String::new(),
        'n' => "\n".into(),
        't' => "\t".into(),
        '%' => "%".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_c_writes_them() {
        for (seconds, format, expected) in [
            (0, "%d %b %Y %A", "01 Jan 1970 Thursday"),
            (951_782_400, "%Y-%m-%d %j %a", "2000-02-29 060 Tue"),
            (1_704_067_199, "%d %B %y %H:%M:%S %I %p %%", "31 December 23 23:59:59 11 PM %"),
            (1_704_067_200, "%-d %-m %-H %_d %e %^b %G-W%V %u %U %W", "1 1 0  1  1 JAN 2024-W01 1 00 01"),
            (
                1_609_459_200,
                "%c %x %X %R %D %V %Q %",
                "Fri Jan  1 00:00:00 2021 01/01/21 00:00:00 00:00 01/01/21 53 %Q %",
            ),
        ] {
            assert_eq!(strftime(seconds, format).unwrap(), expected);
        }
    }
}
