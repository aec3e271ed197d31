//! Words and characters that the tokenizer knows.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::answer::words;

/// Whether letters are a word and no product of symbols; asked of those up to three letters long.
pub fn is_short_word(word: &str) -> bool {
    static SHORT: LazyLock<HashSet<&str>> =
        LazyLock::new(|| words::entries("short").map(|e| e.phrase).collect());
    SHORT.contains(word)
}

/// Whether a word before a number changes its sign.
pub fn is_minus(word: &str) -> bool {
    words::entries("minus").any(|e| e.phrase == word)
}

/// Unit symbols; read as units only directly after a value.
pub const UNITS: &[&str] = &[
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "lbs", "oz", "mph", "hr", "hrs", "min", "sec",
    "Hz", "kHz", "MHz", "Pa", "kPa", "mol", "cal", "kcal", "kJ", "kW", "MW", "mi", "yd", "nm", "kWh", "Wh",
    "eV", "keV", "MeV", "GeV", "MPa", "GPa", "kN", "mW", "GHz", "THz", "dB", "yen", "won", "sq", "ppm",
    "bpm", "fps", "dm", "cc", "rad", "deg", "USD", "EUR", "GBP", "usd", "kmh", "kph", "gal", "qt", "pt",
    "rpm", "mA", "mV", "kV", "GB", "MB", "KB", "TB", "ms", "ns", "kB", "Mb", "Gb", "Mbps", "Gbps", "kbps",
];

/// Whether a name is the symbol of a unit, with or without a prefix.
pub fn unit_symbols(name: &str) -> bool {
    const SYMBOLS: &[&str] = &[
        "m", "g", "s", "A", "K", "mol", "cd", "Hz", "N", "Pa", "J", "W", "C", "V", "F", "Ω", "S", "Wb", "T",
        "H", "lm", "lx", "Bq", "Gy", "Sv", "L", "l", "eV", "cal", "bar", "rad", "M", "B", "b",
    ];
    const ALONE: &[&str] = &[
        "h", "min", "hr", "sec", "atm", "ft", "in", "lb", "oz", "mi", "yd", "sr", "°C", "°F", "°", "rpm",
        "mph", "day", "year", "person", "unit", "units", "mole", "u",
    ];
    let plain = |name: &str| SYMBOLS.contains(&name);
    let prefixed = |name: &str| {
        let mut rest = name.chars();
        matches!(rest.next(), Some('k' | 'M' | 'G' | 'T' | 'm' | 'μ' | 'µ' | 'n' | 'p' | 'c' | 'd' | 'h'))
            && plain(rest.as_str())
    };
    plain(name) || ALONE.contains(&name) || prefixed(name) || UNITS.contains(&name)
}

/// Greek letters by name.
pub const GREEK: &[&str] = &[
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
    "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell",
];

/// What a word behind a value does to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// "5 and …", "5 if …": begins what changes the value.
    Begins,
    /// "5 or": does so where it stands last.
    Joins,
    /// "or", "not", "than": does so anywhere.
    Opens,
}

impl Role {
    /// Whether a word in lower case has it. Single letters are symbols.
    pub fn has(self, word: &str) -> bool {
        static WORDS: LazyLock<HashSet<(Role, &str)>> = LazyLock::new(|| {
            let keys: [(Role, &[&str]); 3] = [
                (Role::Begins, &["and", "but", "condition", "range"]),
                (Role::Joins, &["and"]),
                (Role::Opens, &["or", "not", "than", "other"]),
            ];
            let plain = |p: &str| p.chars().all(char::is_alphabetic) && (p.len() > 1 || !p.is_ascii());
            keys.iter()
                .flat_map(|(role, keys)| keys.iter().map(move |key| (*role, *key)))
                .flat_map(|(role, key)| words::entries(key).map(move |e| (role, e.phrase)))
                // Dutch "of" is an English word that changes nothing.
                .filter(|(_, phrase)| plain(phrase) && !is_fill(phrase))
                .collect()
        });
        WORDS.contains(&(self, word))
    }
}

/// Whether a word in front of a value changes nothing: "a total of 5".
pub fn is_fill(word: &str) -> bool {
    static FILL: LazyLock<HashSet<&str>> =
        LazyLock::new(|| words::entries("fill").map(|e| e.phrase).collect());
    FILL.contains(word)
}

/// Whether letters directly behind a number and an apostrophe only are its ending: 7'dir.
pub fn is_ending(letters: &str) -> bool {
    words::entries("suffix").any(|e| e.phrase == letters)
}

/// Whether a word directly behind a value is the symbol of a unit.
pub fn is_unit(word: &str) -> bool {
    static OF_LANGUAGES: LazyLock<HashSet<&str>> =
        LazyLock::new(|| words::entries("unit").map(|e| e.phrase).collect());
    UNITS.contains(&word) || OF_LANGUAGES.contains(&*word.to_lowercase())
}

/// The function that a name stands for.
pub fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" | "ctg" | "cotan" => "cot",
        "sec" => "sec",
        "csc" | "cosec" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" | "arctg" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "ln" => "ln",
        "log" | "lg" => "log",
        "exp" => "exp",
        "abs" => "abs",
        "floor" => "floor",
        "ceil" => "ceil",
        "gcd" => "gcd",
        "lcm" => "lcm",
        "max" => "max",
        "min" => "min",
        _ => return None,
    })
}

/// The digits of a number word.
pub fn number_word(word: &str) -> Option<&'static str> {
    words::value("number", &word.to_ascii_lowercase())
}

/// The number that a word after a count multiplies it by.
pub fn magnitude(word: &str) -> Option<&'static str> {
    words::value("magnitude", word)
}

/// The number that a word after a count divides it by: `two thirds`.
pub fn denominator(word: &str) -> Option<&'static str> {
    words::value("denominator", word)
}

/// Full-width, Arabic-Indic and typographic characters to their plain forms.
pub fn fold(text: &str) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if crate::answer::text::is_invisible(c) {
            continue;
        }
        out.push(match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            '\u{660}'..='\u{669}' => char::from_u32(c as u32 - 0x660 + 48).unwrap_or(c),
            '\u{6f0}'..='\u{6f9}' => char::from_u32(c as u32 - 0x6f0 + 48).unwrap_or(c),
            // Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu, Kannada, Malayalam, Thai, Lao, Tibetan.
            '\u{966}'..='\u{f29}' if digit(c).is_some() => digit(c).unwrap_or(c),
            '−' | '‒' | '‐' | '‑' | '–' | '—' | '﹣' => '-',
            '⋅' | '·' | '∙' | '×' | '∗' | '✕' => '*',
            '÷' | '∕' | '⁄' => '/',
            '、' | '٬' => ',',
            '٫' => '.',
            '∣' => '|',
            '’' | '′' => '\'',
            '「' | '」' | '『' | '』' => '"',
            '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{200a}' | '\u{2002}' | '\u{2003}' | '\u{3000}' => ' ',
            c => c,
        });
    }
    out
}

/// The plain form of a decimal digit of the scripts of India and its neighbours.
fn digit(c: char) -> Option<char> {
    const ZEROS: &[u32] =
        &[0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20];
    let offset = ZEROS.iter().map(|zero| (c as u32).wrapping_sub(*zero)).find(|offset| *offset < 10)?;
    char::from_digit(offset, 10)
}

/// The plain form of a superscript character.
pub fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴' => '4',
        '⁵' => '5',
        '⁶' => '6',
        '⁷' => '7',
        '⁸' => '8',
        '⁹' => '9',
        '⁻' => '-',
        'ⁿ' => 'n',
        _ => return None,
    })
}
