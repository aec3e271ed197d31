//! Stop strings: ends of completions that only their text shows.
use rlvr_policies::Tokenizer;
use rlvr_rollout::StopCheck;

/// Ends a completion when its text contains one of some strings, which stay part of it.
#[derive(Debug)]
pub struct StopStrings<'a> {
    tokenizer: &'a Tokenizer,
    strings: &'a [String],
    window: usize,
}

impl<'a> StopStrings<'a> {
    /// A check for strings, each of which is not empty.
    pub fn new(tokenizer: &'a Tokenizer, strings: &'a [String]) -> Self {
        // A token with text has at least one byte of it; some slack for tokens without any.
        let window = strings.iter().map(String::len).max().unwrap_or(0) + 8;
        Self { tokenizer, strings, window }
    }
}

impl StopCheck for StopStrings<'_> {
    fn should_stop(&self, token_ids: &[u32]) -> bool {
        if self.strings.is_empty() {
            return false;
        }
        let tail = &token_ids[token_ids.len().saturating_sub(self.window)..];
        let found = |skip_special| {
            let text = self.tokenizer.decode(tail, skip_special).unwrap_or_default();
            self.strings.iter().any(|s| text.contains(s.as_str()))
        };
        // A special token is no part of the text, but a stop string may be one.
        found(true) || (tail.iter().any(|id| self.tokenizer.is_special(*id)) && found(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_are_found_and_do_not_hide_text() {
        let tokenizer = Tokenizer::characters("ab", &["<eos>", "<|im_end|>"]).unwrap();
        let stops = |strings: &[&str], ids: &[u32]| {
            let strings: Vec<String> = strings.iter().map(|s| (*s).to_owned()).collect();
            StopStrings::new(&tokenizer, &strings).should_stop(ids)
        };
        assert!(stops(&["<|im_end|>"], &[2, 3, 1]));
        assert!(stops(&["b<|im_end|>"], &[2, 3, 1]));
        assert!(stops(&["ab"], &[2, 1, 3]));
        assert!(!stops(&["<|im_end|>"], &[2, 3, 0]));
        assert!(!stops(&[], &[1]));
    }
}
