//! Text of a completion while its tokens come in.

use crate::policy::Policy;

/// How the text of completions is made.
#[derive(Clone, Copy)]
pub(super) struct Wording<'a> {
    pub(super) policy: &'a Policy,
    pub(super) stop: &'a [String],
    pub(super) include_stop: bool,
    pub(super) keep_special: bool,
}

impl Wording<'_> {
    /// Text of a whole completion, and the stop text that ended it.
    pub(super) fn whole(&self, token_ids: &[u32]) -> (String, Option<String>) {
        let mut text = self.decode(self.without_end(token_ids));
        let found = self
            .cut(&text)
            .map(|(at, stop)| (at + if self.include_stop { stop.len() } else { 0 }, stop.to_owned()));
        if let Some((at, _)) = found {
            text.truncate(at);
        }
        (text, found.map(|(_, stop)| stop))
    }

    /// The text of one token.
    pub(super) fn token(&self, id: u32) -> String {
        self.policy.tokenizer().decode(&[id], false).unwrap_or_default()
    }

    fn without_end<'i>(&self, token_ids: &'i [u32]) -> &'i [u32] {
        match token_ids.split_last() {
            Some((last, said)) if self.policy.eos_token_ids().contains(last) => said,
            _ => token_ids,
        }
    }

    fn decode(&self, token_ids: &[u32]) -> String {
        // Byte-level and character tokenizers never fail.
        self.policy.tokenizer().decode(token_ids, !self.keep_special).unwrap_or_default()
    }

    /// Where the first stop text begins, and which it is.
    fn cut(&self, text: &str) -> Option<(usize, &str)> {
        self.stop
            .iter()
            .filter_map(|stop| Some((text.find(stop.as_str())?, stop.as_str())))
            .min_by_key(|(at, _)| *at)
    }

    /// Bytes at the end of a text that a stop text may begin with.
    fn held_back(&self, text: &str) -> usize {
        let begins = |stop: &&String| {
            let most = stop.len().min(text.len());
            (1..=most).rev().find(|n| stop.is_char_boundary(*n) && text.ends_with(&stop[..*n]))
        };
        self.stop.iter().filter_map(|stop| begins(&stop)).max().unwrap_or(0)
    }
}

/// The text of a completion as it is told, piece by piece; together the pieces are what [`Wording::whole`] says.
pub(super) struct Told<'a> {
    wording: Wording<'a>,
    token_ids: Vec<u32>,
    /// Tokens before this have been decoded for good; those from `context` on are decoded before others, as some tokens
    /// read differently at a beginning.
    decoded: usize,
    context: usize,
    text: String,
    /// Bytes of the text that have been told.
    told: usize,
}

impl<'a> Told<'a> {
    pub(super) fn new(wording: Wording<'a>) -> Self {
        Self { wording, token_ids: Vec::new(), decoded: 0, context: 0, text: String::new(), told: 0 }
    }

    /// Takes tokens; gives what can be told now.
    pub(super) fn more(&mut self, token_ids: impl IntoIterator<Item = u32>) -> String {
        self.token_ids.extend(token_ids);
        let said = self.wording.without_end(&self.token_ids).len();
        if said > self.decoded {
            let before = self.wording.decode(&self.token_ids[self.context..self.decoded]);
            let all = self.wording.decode(&self.token_ids[self.context..said]);
            // A character of several tokens is not whole yet.
            if let Some(new) = all.strip_prefix(before.as_str()).filter(|_| !all.ends_with('\u{fffd}')) {
                self.text.push_str(new);
                (self.context, self.decoded) = (self.decoded, said);
            }
        }
        let end = match self.wording.cut(&self.text) {
            Some((at, _)) => at,
            None => self.text.len() - self.wording.held_back(&self.text),
        };
        self.tell(end)
    }

    /// The rest, and the stop text that ended it.
    pub(super) fn rest(&mut self) -> (String, Option<String>) {
        let (whole, stop) = self.wording.whole(&self.token_ids);
        if whole.is_char_boundary(self.told) && whole.starts_with(&self.text[..self.told]) {
            self.text = whole;
        }
        (self.tell(self.text.len()), stop)
    }

    pub(super) fn tokens(&self) -> usize {
        self.token_ids.len()
    }

    fn tell(&mut self, end: usize) -> String {
        let end = end.max(self.told);
        let new = self.text[self.told..end].to_owned();
        self.told = end;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let device = crate::run::device(crate::config::DeviceConfig::Cpu).unwrap();
        Policy::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-qwen2"), &device)
            .unwrap()
    }

    fn told(wording: Wording<'_>, ids: &[u32], at_once: usize) -> (Vec<String>, Option<String>) {
        let mut told = Told::new(wording);
        let mut pieces: Vec<String> = ids.chunks(at_once).map(|ids| told.more(ids.iter().copied())).collect();
        let (rest, stop) = told.rest();
        pieces.push(rest);
        (pieces, stop)
    }

    #[test]
    fn pieces_are_the_whole() {
        let policy = policy();
        let text = "a  b é 日本語 🦀 = 12<|im_start|>x\n\n\u{fffd}y<|im_end|>";
        let ids = policy.encode(text, false).unwrap();
        assert!(ids.len() > 20, "characters of several tokens: {ids:?}");
        for (keep_special, stop) in
            [(false, vec![]), (true, vec![]), (false, vec!["12x".to_owned(), "= 9".to_owned()])]
        {
            let wording = Wording { policy: &policy, stop: &stop, include_stop: false, keep_special };
            let (whole, _) = wording.whole(&ids);
            for at_once in [1, 2, 5, 100] {
                let (pieces, _) = told(wording, &ids, at_once);
                assert_eq!(pieces.concat(), whole, "{keep_special} {stop:?} {at_once}: {pieces:?}");
                assert!(
                    at_once > 1 || pieces.iter().filter(|piece| !piece.is_empty()).count() > 5,
                    "{pieces:?}"
                );
            }
        }
    }

    #[test]
    fn stop_texts_are_held_back_and_cut() {
        let policy = policy();
        let stop = vec!["END".to_owned(), "ENX".to_owned()];
        let ids = policy.encode("one EN two ENX three", false).unwrap();
        for (include_stop, whole) in [(false, "one EN two "), (true, "one EN two ENX")] {
            let wording = Wording { policy: &policy, stop: &stop, include_stop, keep_special: false };
            let (pieces, stopped) = told(wording, &ids, 1);
            assert_eq!((pieces.concat().as_str(), stopped.as_deref()), (whole, Some("ENX")));
            assert!(!pieces.iter().any(|piece| piece == "E" || piece == "EN"), "{pieces:?}");
        }
        let wording = Wording { policy: &policy, stop: &stop, include_stop: false, keep_special: false };
        let (pieces, stopped) = told(wording, &policy.encode("one EN", false).unwrap(), 1);
        assert_eq!((pieces.concat().as_str(), stopped), ("one EN", None));
    }
}
