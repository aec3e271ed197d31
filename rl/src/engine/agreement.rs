//! Before anything depends on it: do servers sample from the policy, and from what is handed over to them?
//!
//! A server may reload a model in part and say nothing (a tied head whose packed copy stays), report log-probabilities of
//! another distribution (before the temperature), or hold another model. So completions are sampled at temperature 0.5 and
//! their log-probabilities compared with our own: of the policy as it is, of a copy with 2 % noise in every tensor, which is
//! handed over like any version, and of the policy again.

use rlvr_policies::Decoder;
use rlvr_policies::decoder::Compute;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_rollout::{Completion, Prompt, SampleKey, SamplingParams};

use super::{Engine, Remote};
use crate::config::Handover;
use crate::error::Error;
use crate::generate::Request;
use crate::policy::Policy;
use crate::random;
use crate::servers::EngineError;
use burn::tensor::DType;

/// Where log-probabilities before and after the temperature differ.
const TEMPERATURE: f64 = 0.5;
/// Tokens that are compared at least, if the policy does not end everything at once.
const TOKENS: usize = 256;
/// Longest of the completions that are compared.
const LONGEST: usize = 32;
/// Prompts that are asked at a time, and completions of each.
const PROMPTS: usize = 8;
const SAMPLES: usize = 4;
/// How often they are asked, at most.
const ROUNDS: u64 = 8;
/// Largest difference of a log-probability where both sides compute in f32, nats.
const MOST_F32: f64 = 1e-3;
/// Largest mean difference where one of them does not.
const MEAN_NARROW: f64 = 0.05;
/// Noise of the copy, as a share of a tensor's root mean square.
const NOISE: f64 = 0.02;
/// Standard deviation of the noise in a tensor of zeros, such as the second factor of a new adapter.
const NOISE_OF_ZEROS: f64 = 0.01;
/// How much worse the copy may agree than the policy itself, where it is not exact.
const WORSE: f64 = 1.3;
/// Differences of means that say nothing at this number of tokens.
const SLACK: f64 = 0.005;

/// What weights that are read again in part may come from.
const TIED: &str = "A tied head may keep its old copy: start the server from a folder with a head of its own (`rlvr merge \
                    --policy POLICY --untied --out FOLDER`), or hand over adapters (sync = \"adapter\")";

/// How far apart two sources of log-probabilities are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Agreement {
    /// Tokens compared.
    pub tokens: usize,
    /// Mean absolute difference, nats.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

impl Agreement {
    fn of(differences: impl Iterator<Item = f64>) -> Self {
        let mut found = Self::default();
        for d in differences {
            found.tokens += 1;
            found.mean += d.abs();
            found.max = found.max.max(d.abs());
        }
        found.mean /= found.tokens.max(1) as f64;
        found
    }

    /// Whether it is as close as rounding allows; `before` is how close the same two were with other weights.
    fn is_close(&self, exact: bool, before: Option<&Self>) -> bool {
        let mean = before.map_or(MEAN_NARROW, |b| (WORSE * b.mean).max(b.mean + SLACK));
        if exact { self.max <= MOST_F32 } else { self.mean <= mean }
    }
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1e} nats on average and {:.1e} at most over {} tokens",
            self.mean, self.max, self.tokens
        )
    }
}

/// Tests servers and leaves them with the weights of the policy.
pub(super) fn test(
    remote: &Remote,
    policy: &Policy,
    version: u64,
    prompts: &[Prompt],
) -> Result<String, Error> {
    if prompts.is_empty() {
        return Err(EngineError::Unsupported("there is no prompt to test servers with".into()).into());
    }
    let exact = remote.is_f32() && policy.decoder.operands() == DType::F32;
    // A run that goes on may find weights of any version there.
    if remote.hands_over() {
        remote.hand_over(policy, version, &format!("{version}-first"))?;
    }
    let first = compare(remote, policy, version, prompts, exact)?;
    if !first.agreement.is_close(exact, None) {
        return Err(first.refusal(remote));
    }
    let found = first.agreement;
    if !remote.hands_over() {
        return Ok(format!("{} samples from the policy: log-probabilities differ by {found}", remote.urls()));
    }
    let copy = policy.with_decoder(perturbed(&policy.decoder));
    remote.hand_over(&copy, version, "noise")?;
    let noisy = compare(remote, &copy, version, prompts, exact)?.agreement;
    if !noisy.is_close(exact, Some(&found)) {
        let what = format!(
            "a copy with 2 % noise that was handed over differs from what it samples by {noisy}, the policy itself by {found}: \
             it does not use all of the new weights. {TIED}"
        );
        return Err(disagrees(remote, what));
    }
    remote.hand_over(policy, version, &version.to_string())?;
    let again = compare(remote, policy, version, prompts, exact)?.agreement;
    if !again.is_close(exact, Some(&found)) {
        let what = format!("with the policy handed over again it differs by {again}, before by {found}");
        return Err(disagrees(remote, what));
    }
    Ok(format!(
        "{} samples from the policy: log-probabilities differ by {found}, with a copy of other weights handed over by {noisy}, \
         with the policy handed over again by {again}",
        remote.urls()
    ))
}

fn disagrees(remote: &Remote, what: String) -> Error {
    EngineError::Disagrees { url: remote.urls(), what }.into()
}

/// What a comparison found.
struct Comparison {
    agreement: Agreement,
    /// With our log-probabilities at temperature 1, which are those before the temperature.
    raw: Agreement,
    exact: bool,
}

impl Comparison {
    fn refusal(&self, remote: &Remote) -> Error {
        let found = self.agreement;
        let what = if self.raw.is_close(self.exact, None) {
            format!(
                "its log-probabilities are those before the temperature (at {TEMPERATURE} they differ from ours by {found}): \
                 start vLLM with --logprobs-mode processed_logprobs, SGLang without SGLANG_RETURN_ORIGINAL_LOGPROB"
            )
        } else {
            format!(
                "its log-probabilities differ from the policy's by {found}: does it hold the same model, the same adapter, \
                 untouched by quantisation?{}",
                if remote.handover() == Handover::Folder { format!(" {TIED}") } else { String::new() }
            )
        };
        disagrees(remote, what)
    }
}

/// Samples, and compares what the servers say of their samples with what the policy says.
fn compare(
    remote: &Remote,
    policy: &Policy,
    version: u64,
    prompts: &[Prompt],
    exact: bool,
) -> Result<Comparison, Error> {
    let prompts = &prompts[..prompts.len().min(PROMPTS)];
    let sampling =
        SamplingParams { temperature: TEMPERATURE, max_tokens: LONGEST, ..SamplingParams::default() };
    let mut groups: Vec<(usize, Vec<Completion>)> = Vec::new();
    let mut tokens = 0;
    for round in 0..ROUNDS {
        let key = SampleKey { first_sample: round << 32, ..SampleKey::new(u64::from(u32::MAX), 0) };
        let request = Request { version, ..Request::new(prompts, SAMPLES, &sampling, key) };
        let (found, _) = remote.complete(policy, &request, None)?;
        tokens += found.iter().flatten().map(|c| c.token_ids.len()).sum::<usize>();
        groups.extend(found.into_iter().enumerate().filter(|(_, group)| !group.is_empty()));
        if tokens >= TOKENS {
            break;
        }
    }
    let theirs: Vec<f64> =
        groups.iter().flat_map(|(_, g)| g).flat_map(|c| &c.logprobs).map(|l| f64::from(*l)).collect();
    let against = |temperature: f64| {
        let ours = groups.iter().flat_map(|(p, g)| scored(&policy.decoder, &prompts[*p], g, temperature));
        Agreement::of(theirs.iter().zip(ours).map(|(a, b)| a - b))
    };
    Ok(Comparison { agreement: against(TEMPERATURE), raw: against(1.0), exact })
}

/// The policy's log-probabilities of a prompt's completions, one behind the other.
fn scored(decoder: &Decoder, prompt: &Prompt, group: &[Completion], temperature: f64) -> Vec<f64> {
    let completions = group.iter().map(|c| c.token_ids.as_slice()).collect();
    let batch = PackedBatch::new(&[PromptGroup { prompt: &prompt.token_ids, completions }]);
    decoder.logprobs(&batch, temperature).logprobs.iter().map(|l| f64::from(*l)).collect()
}

/// A decoder whose trained tensors have noise on top.
fn perturbed(decoder: &Decoder) -> Decoder {
    let mut copy = decoder.clone();
    let noise = |index: usize, values: &mut [f32]| {
        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len().max(1) as f64;
        let std = if square > 0.0 { NOISE * square.sqrt() } else { NOISE_OF_ZEROS };
        for (i, value) in values.iter_mut().enumerate() {
            let sign = if random::word(&[index as u64, i as u64]) & 1 == 0 { std } else { -std };
            *value = (f64::from(*value) + sign) as f32;
        }
    };
    match copy.compute() {
        Compute::Host => copy.update_on_host(|index, _, values| noise(index, values)),
        Compute::Device => {
            for index in (0..copy.params().len()).filter(|i| decoder.trained()[*i]) {
                let mut values = copy.param_values(index);
                noise(index, &mut values);
                copy.set_param(index, values);
            }
        }
    }
    copy
}
