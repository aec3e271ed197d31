//! Numbers in Chinese characters and in Hangul: 一万五千, 三分之二, 三点五, 이십오.

use super::token::Tok;

/// A character of Chinese numerals as a digit.
fn digit(c: char) -> Option<u128> {
    Some(match c {
        '零' | '〇' => 0,
        '一' | '壹' | '壱' => 1,
        '二' | '两' | '兩' | '贰' | '弐' => 2,
        '三' | '叁' | '参' => 3,
        '四' | '肆' => 4,
        '五' | '伍' => 5,
        '六' | '陆' => 6,
        '七' | '柒' => 7,
        '八' | '捌' => 8,
        '九' | '玖' => 9,
        _ => return None,
    })
}

/// A power of ten below ten thousand, and one above.
fn power(c: char) -> Option<u128> {
    Some(match c {
        '十' | '拾' | '십' => 10,
        '百' | '佰' | '백' => 100,
        '千' | '仟' | '천' => 1000,
        '万' | '萬' | '만' => 10_000,
        '亿' | '億' | '억' => 100_000_000,
        _ => return None,
    })
}

fn hangul_digit(c: char) -> Option<u128> {
    "영일이삼사오육칠팔구".chars().position(|d| d == c).map(|at| at as u128)
}

/// The natural number at the beginning of `run`, with its length and whether it has a power of ten.
fn natural(run: &[char], digit: impl Fn(char) -> Option<u128>) -> Option<(u128, usize, bool)> {
    let len = run.iter().take(40).take_while(|c| digit(**c).is_some() || power(**c).is_some()).count();
    let run = &run[..len];
    if len == 0 {
        return None;
    }
    if run.iter().all(|c| digit(*c).is_some()) {
        // 二〇二四, but two digits side by side are no number.
        let value = run.iter().try_fold(0u128, |n, c| n.checked_mul(10)?.checked_add(digit(*c)?))?;
        let single = len == 1 || len >= 3 || run.contains(&'〇') || run.contains(&'零');
        return single.then_some((value, len, false));
    }
    // 一万五 is said for 一万五千, so a last digit right behind a power is open.
    if let [.., p, d] = run
        && power(*p).is_some_and(|p| p > 10)
        && digit(*d).is_some_and(|d| d > 0)
    {
        return None;
    }
    let (mut total, mut section, mut last) = (0u128, 0u128, None::<u128>);
    for c in run {
        match (digit(*c), power(*c)) {
            (Some(0), _) => {}
            (Some(d), _) if last.is_none() => last = Some(d),
            (None, Some(p)) if p < 10_000 => {
                section = section.checked_add(last.take().unwrap_or(1).checked_mul(p)?)?
            }
            (None, Some(p)) => {
                let below = section.checked_add(last.take().unwrap_or(0))?;
                let below = if below == 0 && total == 0 { 1 } else { below };
                // 一万亿 multiplies what stands before it.
                total = match total > 0 && total < p {
                    true => total.checked_add(below)?.checked_mul(p)?,
                    false => total.checked_add(below.checked_mul(p)?)?,
                };
                section = 0;
            }
            _ => return None,
        }
    }
    Some((total.checked_add(section)?.checked_add(last.unwrap_or(0))?, len, true))
}

/// The number in Chinese characters at the beginning of `run` as tokens, with its length.
pub fn han(run: &[char]) -> Option<(Vec<Tok>, usize)> {
    let number = |n: u128| Tok::Num(n.to_string());
    let (value, len, _) = natural(run, digit)?;
    let rest = &run[len..];
    let parts = match rest {
        ['分', '之' | 'の', after @ ..] => natural(after, digit),
        _ => None,
    };
    if let Some((above, more, _)) = parts {
        let tokens = match value {
            100 => vec![number(above), Tok::Percent],
            _ => vec![number(above), Tok::Op('/'), number(value)],
        };
        return Some((tokens, len + 2 + more));
    }
    if let ['点' | '點', after @ ..] = rest {
        let digits: String =
            after.iter().map_while(|c| digit(*c)).filter_map(|d| char::from_digit(d as u32, 10)).collect();
        if !digits.is_empty() {
            let more = digits.len();
            return Some((vec![Tok::Num(format!("{value}.{digits}"))], len + 1 + more));
        }
    }
    Some((vec![number(value)], len))
}

/// The number in Hangul that a whole run is, but for a classifier or a copula; its syllables are those of many words.
pub fn hangul(run: &[char]) -> Option<(Vec<Tok>, usize)> {
    let (value, len, powers) = natural(run, hangul_digit)?;
    (powers && len > 1).then(|| (vec![Tok::Num(value.to_string())], len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerals() {
        let check = |text: &str, want: Option<(&str, usize)>| {
            let run: Vec<char> = text.chars().collect();
            let got = han(&run).or_else(|| hangul(&run)).map(|(tokens, len)| {
                let text: String = tokens
                    .iter()
                    .map(|t| match t {
                        Tok::Num(n) => n.clone(),
                        Tok::Op(c) => c.to_string(),
                        _ => "%".into(),
                    })
                    .collect();
                (text, len)
            });
            assert_eq!(got.as_ref().map(|(t, l)| (&**t, *l)), want, "{text}");
        };
        check("十", Some(("10", 1)));
        check("十二", Some(("12", 2)));
        check("二十五", Some(("25", 3)));
        check("一百零三", Some(("103", 4)));
        check("一万五千", Some(("15000", 4)));
        check("三千二百万", Some(("32000000", 5)));
        check("一亿二千万", Some(("120000000", 5)));
        check("一万亿", Some(("1000000000000", 3)));
        check("二〇二四", Some(("2024", 4)));
        check("三分之二", Some(("2/3", 4)));
        check("百分之五十", Some(("50%", 5)));
        check("三点一四", Some(("3.14", 4)));
        check("五个", Some(("5", 1)));
        check("三四", None);
        check("一万五", None);
        check("个", None);
        check("이십오", Some(("25", 3)));
        check("일만오천", Some(("15000", 4)));
        check("사과", None);
    }
}
