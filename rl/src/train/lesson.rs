//! What a supervised stage learns from a row, as token ids: a prompt with its completion, or a conversation of which the
//! turns of the assistant are trained.
use crate::config::LossOn;
use crate::data::SftExample;
use crate::error::Error;
use crate::policy::Policy;
use crate::train::trajectory::{Batch, Trajectory};
use rlvr_policies::vision::Layout;
use rlvr_rewards::{Message, TaskImage};
use rlvr_rollout::Prompt;
use std::ops::Range;

/// A row as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// What is only read, at least one token, with the pictures in it and in what follows.
    pub prompt: Prompt,
    /// What follows, up to the last token that is trained.
    pub tokens: Vec<u32>,
    /// Which of `tokens` are trained.
    pub trained: Vec<bool>,
}

impl Lesson {
    /// The lesson of a row: of a prompt with a completion all of that and the end token, of a conversation the turns of the
    /// assistant, each up to and with its end token.
    ///
    /// # Errors
    /// Text that the policy cannot encode; a conversation without a chat template, or with one that writes its beginning
    /// otherwise than within the whole and has no `{% generation %}` blocks.
    pub fn new(example: &SftExample, policy: &Policy, on: LossOn) -> Result<Self, Error> {
        if let Some(messages) = &example.conversation {
            let (mut keys, layouts) = policy.pictures(&example.images)?;
            let (mut lesson, seen) = Self::conversation((messages, &layouts), policy, on)?;
            keys.truncate(seen);
            lesson.prompt.images = keys;
            return Ok(lesson);
        }
        let prompt = policy.asked(&example.prompt, &example.images)?;
        let tokens = policy.completion(&example.completion)?;
        Ok(Self { prompt, trained: vec![true; tokens.len()], tokens })
    }

    /// How many tokens the lesson of a conversation has: of its pictures only the beginnings are decoded.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn measured(
        (messages, images): (&[Message], &[TaskImage]),
        policy: &Policy,
        on: LossOn,
    ) -> Result<usize, Error> {
        Ok(Self::conversation((messages, &policy.layouts(images)?), policy, on)?.0.len())
    }

    /// Tokens that a pass reads.
    pub fn len(&self) -> usize {
        self.prompt.token_ids.len() + self.tokens.len()
    }

    /// Whether there is no token; never true of a lesson.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds it to a batch.
    pub(crate) fn add_to(self, batch: &mut Batch) {
        let Self { prompt, tokens, trained } = self;
        let prompt_index = batch.prompts.len();
        batch.trajectories.push(Trajectory {
            prompt: prompt_index,
            tokens,
            trained,
            ..Trajectory::default()
        });
        batch.prompts.push(prompt);
    }

    /// The lesson without its pictures, and how many of them it has: what stands behind the last trained token is not read.
    fn conversation(
        (messages, layouts): (&[Message], &[Layout]),
        policy: &Policy,
        on: LossOn,
    ) -> Result<(Self, usize), Error> {
        let (text, marked) = policy.conversation_text(messages)?;
        let whole = Whole { policy, ids: policy.seeing_ids(&text, layouts, false)?, text, layouts };
        let mut turns = match marked.is_empty() {
            true => whole.turns(messages, on)?,
            false => whole.marked(marked)?,
        };
        if on == LossOn::Last {
            turns.drain(..turns.len().saturating_sub(1));
        }
        let mut trained = vec![false; whole.ids.len()];
        turns.into_iter().for_each(|turn| trained[turn].fill(true));
        // Nothing stands before the first token that could foretell it.
        trained.first_mut().into_iter().for_each(|first| *first = false);
        let ends = trained.iter().position(|t| *t).zip(trained.iter().rposition(|t| *t));
        let (first, last) = ends.ok_or_else(|| unusable("no token of the assistant can be learned"))?;
        if let Some(vision) = policy.decoder.vision()
            && trained.iter().zip(&whole.ids).any(|(trained, id)| *trained && *id == vision.image_token)
        {
            return Err(unusable(
                "there is an image in a turn that is trained, and a policy writes text only",
            ));
        }
        let (prompt, rest) = whole.ids.split_at(first);
        let seen = policy.pictures_in(&whole.ids[..=last], layouts);
        let tokens = rest[..last + 1 - first].to_vec();
        let trained = trained[first..=last].to_vec();
        Ok((Self { prompt: prompt.to_vec().into(), tokens, trained }, seen))
    }
}

/// A conversation as the template writes it.
struct Whole<'a> {
    policy: &'a Policy,
    /// With one image token for each picture.
    text: String,
    layouts: &'a [Layout],
    ids: Vec<u32>,
}

impl Whole<'_> {
    /// The tokens of the template's `{% generation %}` blocks.
    fn marked(&self, blocks: Vec<Range<usize>>) -> Result<Vec<Range<usize>>, Error> {
        let tokens = |(i, block): (usize, Range<usize>)| {
            let place = || format!("{{% generation %}} block {}", i + 1);
            Ok(self.tokens_before(block.start, &place)?..self.tokens_before(block.end, &place)?)
        };
        blocks.into_iter().enumerate().map(tokens).collect()
    }

    /// The tokens of every turn of the assistant that is trained: from behind what the template writes to ask for it up to its end token.
    fn turns(&self, messages: &[Message], on: LossOn) -> Result<Vec<Range<usize>>, Error> {
        let mut said = (0..messages.len()).filter(|i| messages[*i].role == "assistant");
        let said: Vec<usize> = match on {
            LossOn::Assistant => said.collect(),
            // Earlier ones may be written otherwise within the whole.
            LossOn::Last => said.next_back().into_iter().collect(),
        };
        let mut turns = Vec::new();
        for i in said {
            let place = || format!("turn {} (of the assistant)", i + 1);
            let render = |upto: usize, ask: bool| {
                let text = self.policy.rendered(&messages[..upto], ask)?;
                match self.text.starts_with(&text) {
                    true => self.tokens_before(text.len(), &place),
                    false => Err(apart(&place())),
                }
            };
            let (start, end) = (render(i, true)?, render(i + 1, false)?);
            if end < start {
                return Err(apart(&place()));
            }
            turns.push(start..self.end_of_turn(start..end)?);
        }
        Ok(turns)
    }

    /// How many tokens the first `at` bytes of the text have, if they are the first tokens of the whole.
    fn tokens_before(&self, at: usize, place: &dyn Fn() -> String) -> Result<usize, Error> {
        let before = self.policy.encode(&self.policy.expanded(&self.text[..at], self.layouts)?, false)?;
        match self.ids.starts_with(&before) {
            true => Ok(before.len()),
            false => Err(unusable(format!(
                "{}: a token begins before it or in it and ends behind: let the template write a special token there",
                place()
            ))),
        }
    }

    /// Behind the last token that ends a turn, or is special, if nothing but white space follows it: templates go to the next
    /// line there, which is not the policy's to say.
    fn end_of_turn(&self, turn: Range<usize>) -> Result<usize, Error> {
        let tokenizer = self.policy.tokenizer();
        for at in turn.clone().rev() {
            let id = self.ids[at];
            let ends = self.policy.eos_token_ids().contains(&id)
                || tokenizer.decode(&[id], true)?.is_empty() && !tokenizer.decode(&[id], false)?.is_empty();
            if ends {
                return Ok(at + 1);
            }
            if !tokenizer.decode(&[id], false)?.trim().is_empty() {
                break;
            }
        }
        Ok(turn.end)
    }
}

fn unusable(what: impl Into<String>) -> Error {
    Error::Unusable { what: what.into() }
}

/// A template that writes the beginning of a conversation otherwise than within the whole.
fn apart(place: &str) -> Error {
    unusable(format!(
        "{place}: the chat template writes the conversation up to there otherwise than within the whole, so its tokens cannot \
         be told apart: train on the last turn only (loss_on = \"last\"), or mark the turns with {{% generation %}} in a \
         template of your own (policy.chat_template = \"chat.jinja\")"
    ))
}
