//! Options scored by their likelihood after a prompt, without generating.
//!
//! For an option with tokens c₁…cₙ after a prompt p the score is Σ log π(cᵢ | p, c₁…cᵢ₋₁) in nats. The plain choice is
//! the option with the highest sum; the normalised one divides the sum by the option's length in characters first, so
//! that long options are not punished. Ties go to the first option. These are `acc` and `acc_norm` of
//! lm-evaluation-harness, and the tokens are split as there: prompt and option are encoded together, and the prompt's
//! own encoding says where the option begins.

use rlvr_policies::ImageKey;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use serde::{Deserialize, Serialize};

use super::item::Item;
use super::rows::continuation;
use super::task_file::Continuation;
use crate::error::Error;
use crate::policy::Policy;

/// Tokens that are scored in one pass, where no single item has more.
const PASS_TOKENS: usize = 4096;

/// What an item's options got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptionScores {
    /// Log-probability of each option, in nats.
    pub logprobs: Vec<f64>,
    /// Its length in characters, which the normalised choice divides by.
    pub characters: Vec<usize>,
    /// Tokens of each option.
    pub tokens: Vec<usize>,
}

impl OptionScores {
    /// The most likely option, the first of equals.
    pub fn plain(&self) -> usize {
        first_maximum(self.logprobs.iter().copied())
    }

    /// The most likely option per character, the first of equals.
    pub fn normalised(&self) -> usize {
        first_maximum(self.logprobs.iter().zip(&self.characters).map(|(l, c)| l / (*c).max(1) as f64))
    }
}

fn first_maximum(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// An item's prompt and options as tokens.
#[derive(Debug)]
struct Encoded {
    /// One prompt for all options, or one each where an option changes how the prompt's end is split.
    prompts: Vec<Vec<u32>>,
    /// The pictures of each prompt.
    images: Vec<ImageKey>,
    options: Vec<Vec<u32>>,
    characters: Vec<usize>,
}

impl Encoded {
    fn tokens(&self) -> usize {
        let prompts: usize = self.prompts.iter().map(Vec::len).sum();
        prompts + self.options.iter().map(Vec::len).sum::<usize>()
    }

    fn groups(&self) -> Vec<PromptGroup<'_>> {
        let options = self.options.iter().map(Vec::as_slice);
        match &self.prompts[..] {
            [prompt] => vec![PromptGroup { prompt, completions: options.collect() }],
            prompts => (prompts.iter().zip(options))
                .map(|(prompt, option)| PromptGroup { prompt, completions: vec![option] })
                .collect(),
        }
    }
}

/// Scores the options of items, in order; an item's prompt is computed once for all its options.
///
/// # Errors
/// An item without options or with a prompt that the context does not hold.
pub fn score_options(policy: &Policy, items: &[&Item], of: Continuation) -> Result<Vec<OptionScores>, Error> {
    let encoded = items.iter().map(|item| encode(policy, item, of)).collect::<Result<Vec<_>, _>>()?;
    let mut scores = Vec::with_capacity(items.len());
    let mut rest = &encoded[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|e| {
            tokens += e.tokens();
            tokens <= PASS_TOKENS
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        let groups: Vec<PromptGroup<'_>> = now.iter().flat_map(Encoded::groups).collect();
        let mut batch = PackedBatch::new(&groups);
        let images = now.iter().flat_map(|e| std::iter::repeat_n(&e.images[..], e.prompts.len()));
        policy.decoder.place(&mut batch, &images.collect::<Vec<_>>());
        let stats = policy.decoder.logprobs(&batch, 1.0);
        let mut sums = batch
            .completions
            .iter()
            .map(|range| stats.logprobs[range.clone()].iter().map(|l| f64::from(*l)).sum::<f64>());
        for item in now {
            scores.push(OptionScores {
                logprobs: sums.by_ref().take(item.options.len()).collect(),
                characters: item.characters.clone(),
                tokens: item.options.iter().map(Vec::len).collect(),
            });
        }
        rest = later;
    }
    Ok(scores)
}

fn encode(policy: &Policy, item: &Item, of: Continuation) -> Result<Encoded, Error> {
    let unusable = |what: String| Error::Unusable { what: format!("{}: {what}", item.place) };
    let parts = item.likelihood.as_ref().filter(|_| !item.options.is_empty());
    let parts = parts.ok_or_else(|| unusable("there are no options to score by likelihood".into()))?;
    let raw = policy.is_raw();
    let (text, images) =
        policy.asked_text(&parts.messages(raw), &item.task.images).map_err(|e| unusable(e.to_string()))?;
    let prompt = policy.encode(&text, raw)?;
    // After a chat template the answer begins at once, after plain text with a space.
    let space = if raw { " " } else { "" };
    let mut encoded = Encoded { prompts: Vec::new(), images, options: Vec::new(), characters: Vec::new() };
    let mut shared = true;
    for option in &item.options {
        let option = continuation(option, of);
        let mut whole = policy.encode(&format!("{text}{space}{option}"), raw)?;
        if whole.len() <= prompt.len() {
            return Err(unusable(format!("option {option:?} adds no token to the prompt")));
        }
        let tokens = whole.split_off(prompt.len());
        shared &= whole == prompt;
        encoded.characters.push(option.chars().count());
        encoded.prompts.push(whole);
        encoded.options.push(tokens);
    }
    if shared {
        encoded.prompts.truncate(1);
    }
    let longest = prompt.len() + encoded.options.iter().map(Vec::len).max().unwrap_or(0);
    let context = policy.decoder.config().max_position_embeddings;
    if longest > context {
        return Err(unusable(format!(
            "{longest} tokens with the options, the policy's context is {context}"
        )));
    }
    if prompt.is_empty() {
        return Err(unusable("the prompt has no tokens".into()));
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TinyConfig;
    use crate::eval::item::{Choice, PromptParts};

    fn item(prompt: &str, options: &[&str]) -> Item {
        let choice = |(text, label): (&&str, char)| Choice { label: label.into(), text: (*text).into() };
        Item {
            options: options.iter().zip('A'..).map(choice).collect(),
            likelihood: Some(PromptParts { user: prompt.into(), ..PromptParts::default() }),
            ..Item::default()
        }
    }

    #[test]
    fn scores_are_those_of_each_option_alone() {
        let policy = Policy::tiny(&TinyConfig::default(), 3, &burn::tensor::Device::flex()).unwrap();
        let long = "a".repeat(40);
        let items = [item("question one? ", &["yes", "no", &long]), item("q2", &["b", "aaaa", "c", "d"])];
        let refs: Vec<&Item> = items.iter().collect();
        let found = score_options(&policy, &refs, Continuation::Text).unwrap();
        for (item, scores) in items.iter().zip(&found) {
            for (i, option) in item.options.iter().enumerate() {
                let prompt =
                    policy.tokenizer().encode(&item.likelihood.as_ref().unwrap().user, true).unwrap();
                let tokens = policy.tokenizer().encode(&format!(" {}", option.text), false).unwrap();
                let batch = PackedBatch::new(&[PromptGroup { prompt: &prompt, completions: vec![&tokens] }]);
                let alone: f64 =
                    policy.decoder.logprobs(&batch, 1.0).logprobs.iter().map(|l| f64::from(*l)).sum();
                // The same sums in the same order: packing changes no bit of a row.
                assert!((alone - scores.logprobs[i]).abs() < 1e-6, "{alone} {}", scores.logprobs[i]);
                assert_eq!((scores.tokens[i], scores.characters[i]), (tokens.len(), option.text.len()));
            }
        }
        // A longer option is less likely as a whole, not per character.
        assert_ne!(found[0].plain(), 2);
        let labels = score_options(&policy, &refs, Continuation::Label).unwrap();
        assert!(labels.iter().all(|s| s.plain() == s.normalised()));
        let none = item("q", &[]);
        assert!(score_options(&policy, &[&none], Continuation::Text).is_err());
    }

    #[test]
    fn normalising_divides_by_characters_and_ties_go_to_the_first() {
        let scores =
            OptionScores { logprobs: vec![-4.0, -6.0, -6.0], characters: vec![2, 6, 6], tokens: vec![1; 3] };
        assert_eq!((scores.plain(), scores.normalised()), (0, 1));
    }
}
