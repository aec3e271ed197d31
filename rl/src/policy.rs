//! A policy as the loop uses it: the decoder with its tokenizer and chat template, and where they come from.
use crate::config::{ChatTemplate as TemplateChoice, Dtype, EndToken, LoraConfig, PolicyConfig, TinyConfig};
use crate::error::Error;
use crate::selection;
use burn::tensor::Device;
use rlvr_policies::config::Shape;
use rlvr_policies::decoder::Cache;
use rlvr_policies::decoder::Compute;
use rlvr_policies::model::draw::DrawAt;
use rlvr_policies::vision::Sizes;
use rlvr_policies::{
    AdapterFiles, Architecture, ChatTemplate, Decoder, ModelConfig, PolicyAssets, PolicyError, PolicyFiles,
    RopeScaling, SaveDtype, Tokenizer, save_adapter, save_hf, save_hf_untied,
};
use rlvr_rewards::{IMAGE_PLACE, Message};
use rlvr_rollout::{
    BatchSettings, CounterRng, DecodeModel, Draw, ImageKey, Prompt, PromptLimit, RolloutError, Sampled,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod images;
mod tower;

/// A decoder with everything between text and token ids.
#[derive(Debug)]
pub struct Policy {
    /// π_θ.
    pub decoder: Decoder,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    eos_token_ids: Vec<u32>,
    /// The end token that supervised training teaches, where the config names one.
    taught_end: Option<u32>,
    keep_special: bool,
    assets: Arc<PolicyAssets>,
    source: Option<PathBuf>,
    /// Pictures that the decoder was shown.
    images: Arc<images::Known>,
    /// What the base of an adapter was opened from, or will be.
    base: Option<String>,
}

/// A policy as it was at one moment, to be written. It shares its weights with the policy until that changes them.
#[derive(Debug)]
pub struct SavedPolicy {
    decoder: Decoder,
    assets: Arc<PolicyAssets>,
    base: Option<String>,
}

impl SavedPolicy {
    /// Writes a Hugging Face folder that transformers loads, or one that PEFT loads where the policy is an adapter over a
    /// base that has a name.
    ///
    /// # Errors
    /// An unwritable folder.
    pub fn save(&self, dir: &Path) -> Result<(), PolicyError> {
        self.save_as(dir, SaveDtype::F32)
    }

    /// As [`Self::save`], with the weights in a number format; adapters are f32 always.
    ///
    /// # Errors
    /// As [`Self::save`]; a value that the format does not hold.
    pub fn save_as(&self, dir: &Path, dtype: SaveDtype) -> Result<(), PolicyError> {
        match (&self.base, self.decoder.lora()) {
            (Some(base), Some(_)) => save_adapter(dir, &self.decoder, base, &self.assets),
            (_, None) => save_hf(dir, self.decoder.config(), &self.decoder, dtype, &self.assets),
            (None, Some(_)) => self.merged().save_as(dir, dtype),
        }
    }

    /// As [`Self::save_as`] without an adapter, and with the head as a tensor of its own: for servers that read weights again
    /// while they run.
    ///
    /// # Errors
    /// As [`Self::save_as`].
    pub fn save_untied(&self, dir: &Path, dtype: SaveDtype) -> Result<(), PolicyError> {
        if self.decoder.lora().is_some() {
            return self.merged().save_untied(dir, dtype);
        }
        save_hf_untied(dir, self.decoder.config(), &self.decoder, dtype, &self.assets)
    }

    /// The policy without adapter that computes the same.
    #[must_use]
    pub fn merged(&self) -> Self {
        Self { decoder: self.decoder.merged(), assets: self.assets.clone(), base: None }
    }
}

const PAD: &str = "<pad>";
const EOS: &str = "<eos>";
/// Folder of the base of an adapter over a policy that came from nothing.
pub(crate) const BASE: &str = "base";

impl Policy {
    /// Opens a Hugging Face folder, a GGUF file, a run directory or a hub id.
    ///
    /// # Errors
    /// What [`PolicyFiles::open`] reports.
    pub fn open(spec: &str, device: &Device) -> Result<Self, Error> {
        let files = PolicyFiles::open(spec)?;
        let decoder = files.decoder(device)?;
        Ok(Self {
            decoder,
            tokenizer: files.tokenizer,
            template: files.chat_template,
            eos_token_ids: files.eos_token_ids,
            taught_end: None,
            keep_special: false,
            assets: files.assets.into(),
            base: files.base,
            source: Some(files.source),
            images: Arc::default(),
        })
    }

    /// The built-in tiny policy: a character tokenizer and random weights from the seed.
    ///
    /// # Errors
    /// An alphabet with a character twice.
    pub fn tiny(config: &TinyConfig, seed: u64, device: &Device) -> Result<Self, Error> {
        let tokenizer = Tokenizer::characters(&config.alphabet, &[PAD, EOS])?;
        let (pad, eos) = (tokenizer.token_to_id(PAD), tokenizer.token_to_id(EOS));
        let model = ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: config.hidden,
            intermediate_size: config.intermediate,
            num_layers: config.layers,
            num_heads: config.heads,
            num_kv_heads: config.kv_heads,
            head_dim: config.hidden / config.heads,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: config.context,
            attention_bias: false,
            attention_output_bias: false,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_ids: eos.into_iter().collect(),
            pad_token_id: pad,
            shape: Shape::default(),
            vision: None,
        };
        // Steps from 1 are rollouts; step 0 of the generator initialises weights.
        let normal = |param: usize, element: usize| {
            CounterRng::new(seed, 0, param as u64, u64::MAX).normal(element as u64) as f32
        };
        let decoder = Decoder::random(model, device, normal);
        let assets = PolicyAssets::new(&tokenizer, &[("eos_token", EOS), ("pad_token", PAD)], None)?.into();
        Ok(Self {
            decoder,
            tokenizer,
            template: None,
            eos_token_ids: eos.into_iter().collect(),
            taught_end: None,
            keep_special: false,
            assets,
            source: None,
            images: Arc::default(),
            base: None,
        })
    }

    /// The characters of [`Self::without_text`], a token each.
    pub(crate) const CHARACTERS: &str =
        " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";

    /// A decoder whose tokens mean nothing: its first ones are characters, none ends a completion.
    ///
    /// # Errors
    /// A vocabulary of no tokens.
    pub(crate) fn without_text(decoder: Decoder) -> Result<Self, Error> {
        let known = decoder.config().vocab_size.min(Self::CHARACTERS.len());
        let marks = images::marks(&decoder);
        let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
        let tokenizer = Tokenizer::characters(&Self::CHARACTERS[..known], &marks)?;
        let decoder = match marks.last().and_then(|mark| tokenizer.token_to_id(mark)) {
            Some(id) => decoder.with_image_token(id),
            None => decoder,
        };
        let assets = PolicyAssets::new(&tokenizer, &[], None)?.into();
        Ok(Self {
            decoder,
            tokenizer,
            template: None,
            eos_token_ids: Vec::new(),
            taught_end: None,
            keep_special: false,
            assets,
            source: None,
            images: Arc::default(),
            base: None,
        })
    }

    /// The policy that a run starts from.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::tiny`]; an adapter or a new tower that does not fit.
    pub fn from_config(config: &PolicyConfig, seed: u64, device: &Device) -> Result<Self, Error> {
        let mut policy = match (&config.tiny, &config.path) {
            (Some(tiny), _) => Self::tiny(tiny, seed, device)?,
            (None, Some(path)) => Self::open(path, device)?,
            (None, None) => return Err(Error::Unusable { what: "the config names no policy".into() }),
        };
        if let Some(tower) = &config.vision {
            policy = policy.with_fresh_tower(tower, seed)?;
        }
        if let Some(lora) = &config.lora {
            policy = policy.adapted(lora, seed)?;
            policy.base = config.path.clone();
        }
        policy.configured(config)
    }

    /// The policy with an adapter, a given or a new one.
    fn adapted(mut self, config: &LoraConfig, seed: u64) -> Result<Self, Error> {
        let decoder = self.decoder;
        self.decoder = match &config.adapter {
            Some(folder) => AdapterFiles::open(Path::new(folder))?.onto(decoder)?,
            None => {
                // Numbers beside those of tiny policies.
                let uniform = |param: usize, element: usize| {
                    CounterRng::new(seed, 0, param as u64, u64::MAX - 1).uniform(element as u64) as f32
                };
                decoder.with_new_lora(config.settings(), uniform).map_err(|e| match e {
                    PolicyError::Lora { what } => {
                        Error::Setting { field: "policy.lora".to_owned(), message: what }
                    }
                    other => other.into(),
                })?
            }
        };
        Ok(self)
    }

    /// Keeps the base of an adapter over a policy from nothing in `dir`, under a name that is found from there.
    ///
    /// # Errors
    /// An unwritable folder.
    pub(crate) fn keep_base(&mut self, config: &PolicyConfig, dir: &Path) -> Result<(), PolicyError> {
        if self.decoder.lora().is_none() || config.tiny.is_none() {
            return Ok(());
        }
        if self.base.is_none() {
            let base = self.decoder.without_lora();
            save_hf(&dir.join(BASE), base.config(), &base, SaveDtype::F32, &self.assets)?;
        }
        self.base = Some(BASE.to_owned());
        Ok(())
    }

    /// The same policy with the settings of `[policy]` that do not say which one it is.
    ///
    /// # Errors
    /// As [`Self::computing_in`]; a chat template that cannot be read or used, variables that it does not read, an end
    /// token that is in no vocabulary, patterns that name no parameter.
    pub fn configured(self, config: &PolicyConfig) -> Result<Self, Error> {
        let mut policy = match &config.chat_template {
            TemplateChoice::Auto => self,
            TemplateChoice::Raw => self.raw(),
            TemplateChoice::File(path) => self.with_template(path)?,
        };
        if !config.template_vars.is_empty() {
            policy = policy.with_template_vars(&config.template_vars)?;
        }
        policy = policy.ending_with(&config.eos)?;
        policy.keep_special = config.keep_special;
        let mut policy = policy.computing_in(config.dtype)?;
        policy.decoder = policy.decoder.with_recompute(config.recompute);
        policy.decoder = policy.decoder.with_router_aux(config.router_aux_coef as f32);
        if let Some(most) = config.max_pixels {
            let wrong =
                |what: &str| Error::Setting { field: "policy.max_pixels".into(), message: what.into() };
            match policy.decoder.processor().map(|processor| processor.sizes) {
                Some(Sizes::Smart { .. }) => policy.decoder = policy.decoder.with_max_pixels(most),
                Some(Sizes::Tiles { .. }) => {
                    return Err(wrong(
                        "this policy cuts pictures into tiles of one size, whatever theirs: leave it out",
                    ));
                }
                None => return Err(wrong("the policy does not see: leave it out")),
            }
        }
        policy.decoder = selection::apply(policy.decoder, config)?.with_base_dtype(config.base_dtype)?;
        Ok(policy)
    }

    /// The same policy with the operands of its matrix products in a type.
    ///
    /// # Errors
    /// A type that the device does not compute in.
    pub fn computing_in(self, dtype: Dtype) -> Result<Self, Error> {
        let decoder = self.decoder.with_operands(dtype.into()).ok_or_else(|| Error::Unusable {
            what: format!("policy.dtype: this device does not compute in {dtype:?}"),
        })?;
        Ok(Self { decoder, ..self })
    }

    /// The same policy without its chat template: prompts are plain text.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.template = None;
        self
    }

    fn with_template(mut self, path: &Path) -> Result<Self, Error> {
        let template = ChatTemplate::open(path, &self.assets.special_tokens())?;
        Arc::make_mut(&mut self.assets).set_chat_template(template.source());
        self.template = Some(template);
        Ok(self)
    }

    fn with_template_vars(mut self, variables: &BTreeMap<String, toml::Value>) -> Result<Self, Error> {
        let unusable = |what: String| Error::Unusable { what: format!("policy.template_vars: {what}") };
        let Some(template) = &self.template else {
            return Err(unusable("the policy has no chat template that could read them".into()));
        };
        let variables =
            variables.iter().map(|(name, value)| Ok((name.clone(), serde_json::to_value(value)?)));
        let variables = variables.collect::<Result<_, serde_json::Error>>();
        let variables = variables.map_err(|e| unusable(e.to_string()))?;
        let template = template.with_defaults(&variables).map_err(|e| unusable(e.to_string()))?;
        Arc::make_mut(&mut self.assets).set_chat_template(template.source());
        self.template = Some(template);
        Ok(self)
    }

    fn ending_with(mut self, tokens: &[EndToken]) -> Result<Self, Error> {
        let vocab_size = self.decoder.config().vocab_size;
        let mut ids = Vec::with_capacity(tokens.len());
        for token in tokens {
            let id = match token {
                EndToken::Id(id) => Some(*id),
                EndToken::Text(text) => self.tokenizer.token_to_id(text),
            };
            let id = id.filter(|id| (*id as usize) < vocab_size);
            ids.push(id.ok_or_else(|| Error::Unusable {
                what: format!("policy.eos: {token} is no token of the policy, which has {vocab_size}"),
            })?);
        }
        let Some(first) = ids.first().copied() else { return Ok(self) };
        self.taught_end = Some(first);
        self.eos_token_ids
            .extend(ids.into_iter().filter(|id| !self.eos_token_ids.contains(id)).collect::<BTreeSet<_>>());
        self.decoder = self.decoder.with_eos_token_ids(&self.eos_token_ids);
        Ok(self)
    }

    /// The text of the chat template, if there is one that is used.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// Whether prompts are plain text, for want of a chat template or because it is switched off.
    pub fn is_raw(&self) -> bool {
        self.template.is_none()
    }

    /// The folder or file that the policy was opened from; none of a policy made in memory.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Token ids that end a completion.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The prompt as text, with one image token for each picture: by the chat template, or the messages' contents on separate
    /// lines. A last message of the assistant is a reply that is to be continued.
    ///
    /// # Errors
    /// What the template raises; an image token that is spelled out.
    pub fn prompt_text(&self, messages: &[Message]) -> Result<String, Error> {
        let told = self.told(messages)?;
        Ok(match &self.template {
            Some(template) if messages.last().is_some_and(|m| m.role == "assistant") => {
                template.render_continued(&told)?
            }
            Some(template) => template.render(&told, true)?,
            None => told.iter().filter_map(|m| m["content"].as_str()).collect::<Vec<_>>().join("\n"),
        })
    }

    /// Messages as the chat template writes them, one image token for each picture; `ask` adds what asks for a reply of the
    /// assistant.
    ///
    /// # Errors
    /// What the template raises; a policy without one.
    pub(crate) fn rendered(&self, messages: &[Message], ask: bool) -> Result<String, Error> {
        Ok(self.chat()?.render(&self.told(messages)?, ask)?)
    }

    /// A whole conversation as the chat template writes it, and where its `{% generation %}` blocks lie in that, in bytes.
    ///
    /// # Errors
    /// As [`Self::rendered`].
    pub(crate) fn conversation_text(
        &self,
        messages: &[Message],
    ) -> Result<(String, Vec<Range<usize>>), Error> {
        Ok(self.chat()?.render_marked(&self.told(messages)?)?)
    }

    fn chat(&self) -> Result<&ChatTemplate, Error> {
        self.template.as_ref().ok_or_else(|| Error::Unusable {
            what: "a conversation needs a chat template, which the policy does not have: set policy.chat_template to a file \
                   with one"
                .into(),
        })
    }

    /// The token ids of a prompt, the template's generation prefix included.
    ///
    /// # Errors
    /// A template that fails, a character that the tiny policy does not know, or a prompt without a token.
    pub fn prompt(&self, messages: &[Message]) -> Result<Prompt, Error> {
        if self.sees() && messages.iter().any(|m| m.content.contains(IMAGE_PLACE)) {
            let what =
                format!("the prompt has {IMAGE_PLACE} in it, which is an image's place, and no images");
            return Err(Error::Unusable { what });
        }
        let text = self.prompt_text(messages)?;
        // A chat template writes the special tokens itself.
        let token_ids = self.encode(&text, self.template.is_none())?;
        if token_ids.is_empty() {
            return Err(Error::Unusable { what: format!("prompt {text:?} has no tokens") });
        }
        Ok(token_ids.into())
    }

    /// The token ids of a completion to learn: its text and the end token.
    ///
    /// # Errors
    /// A character that the tiny policy does not know; the token that stands for a picture.
    pub fn completion(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode(text, false)?;
        if self.decoder.vision().is_some_and(|vision| ids.contains(&vision.image_token)) {
            let what = "the completion has the token of an image in it, and a policy writes text only";
            return Err(Error::Unusable { what: what.into() });
        }
        ids.extend(self.end_token());
        self.embedded(ids)
    }

    /// The token ids of a text, with the tokens that a sequence begins with or without them.
    ///
    /// # Errors
    /// A character that the tiny policy does not know; a token that the policy has no embedding of.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        self.embedded(self.tokenizer.encode(text, special)?)
    }

    /// The same ids, if the policy has an embedding of each.
    fn embedded(&self, ids: Vec<u32>) -> Result<Vec<u32>, Error> {
        let vocabulary = self.decoder.config().vocab_size;
        let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) else { return Ok(ids) };
        let token = self.tokenizer.decode(&[*id], false).unwrap_or_default();
        let what = format!(
            "the tokenizer gives {token:?} the id {id}, the policy's vocabulary ends at {}: tokenizer and weights do not \
             belong together",
            vocabulary.saturating_sub(1)
        );
        Err(Error::Unusable { what })
    }

    /// The end token that completions are taught with: the first of the config's, else the tokenizer's, else the first of
    /// the model's.
    fn end_token(&self) -> Option<u32> {
        if self.taught_end.is_some() {
            return self.taught_end;
        }
        let named = self.assets.tokenizer_config.get("eos_token");
        let named = named.and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
        named.and_then(|t| self.tokenizer.token_to_id(t)).or_else(|| self.eos_token_ids.first().copied())
    }

    /// Refuses a prompt of so many tokens that leaves no room for a completion in the context; `place` says where it came from.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`].
    pub fn check_room(&self, tokens: usize, max_tokens: usize, place: &str) -> Result<(), Error> {
        let context = self.decoder.config().max_position_embeddings;
        if tokens <= PromptLimit::default().tokens(context, max_tokens) {
            return Ok(());
        }
        Err(Error::PromptTooLong { place: place.to_owned(), tokens, context })
    }

    /// Text of a completion: without the end token, whether or not the tokenizer calls it special, and without special
    /// tokens unless the config keeps them.
    ///
    /// # Errors
    /// Whatever the tokenizer reports.
    pub fn text(&self, token_ids: &[u32]) -> Result<String, Error> {
        let said = match token_ids.split_last() {
            Some((last, said)) if self.eos_token_ids.contains(last) => said,
            _ => token_ids,
        };
        Ok(self.tokenizer.decode(said, !self.keep_special)?)
    }

    /// Writes a Hugging Face folder that transformers loads.
    ///
    /// # Errors
    /// An unwritable folder.
    pub fn save(&self, dir: &Path) -> Result<(), PolicyError> {
        self.saved().save(dir)
    }

    /// The same policy with another decoder of its shape.
    #[must_use]
    pub fn with_decoder(&self, decoder: Decoder) -> Self {
        Self {
            decoder,
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            eos_token_ids: self.eos_token_ids.clone(),
            taught_end: self.taught_end,
            keep_special: self.keep_special,
            assets: self.assets.clone(),
            source: self.source.clone(),
            images: self.images.clone(),
            base: self.base.clone(),
        }
    }

    /// The policy as it is now. On the host nothing is copied; from a device the weights are fetched, so that no other
    /// thread works with the device while it decodes.
    pub fn saved(&self) -> SavedPolicy {
        let base = self.base.clone();
        SavedPolicy { decoder: self.decoder.on_host_memory(), assets: self.assets.clone(), base }
    }
}

/// A decoder as the rollout engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct Sampler<'a>(pub &'a Decoder);

/// Completions that a device other than the CPU decodes together.
const DEVICE_ROWS: usize = 256;

impl Sampler<'_> {
    /// How many completions are decoded together where nobody says so: more on a device than on a CPU, and as long as a
    /// quarter of its free memory allows. What is sampled does not depend on it.
    pub fn batch_settings(&self) -> BatchSettings {
        let cpu = BatchSettings::default();
        if self.0.compute() == Compute::Host {
            return cpu;
        }
        let room = self.0.free_bytes().map_or(0, |free| free / 4 / self.0.cache_bytes());
        BatchSettings {
            max_batch_rows: DEVICE_ROWS,
            max_batch_tokens: room.clamp(cpu.max_batch_tokens, 1 << 20),
            ..cpu
        }
    }
}

fn draw_at(draw: &Draw) -> DrawAt {
    // Its first word is the position, which is below 2³².
    let (counter, key) = draw.rng.block(draw.position);
    DrawAt { row: draw.row, counter, key }
}

fn sampled((token, logprob): (u32, f32)) -> Sampled {
    Sampled { token, logprob }
}

impl DecodeModel for Sampler<'_> {
    type Cache = Cache;

    fn vocab_size(&self) -> usize {
        self.0.config().vocab_size
    }

    fn context_len(&self) -> usize {
        self.0.config().max_position_embeddings
    }

    fn prefill(&self, prompts: &[&[u32]], room: usize) -> Result<(Cache, Vec<f32>), RolloutError> {
        Ok(self.0.prefill(prompts, room))
    }

    fn prefill_seeing(
        &self,
        prompts: &[&[u32]],
        images: &[&[ImageKey]],
        room: usize,
    ) -> Result<(Cache, Vec<f32>), RolloutError> {
        Ok(self.0.prefill_seeing(prompts, images, room))
    }

    fn prefill_and_draw(
        &self,
        prompts: &[&[u32]],
        room: usize,
        draws: &[Draw],
        temperature: f64,
    ) -> Option<Result<(Cache, Vec<Sampled>), RolloutError>> {
        let draws: Vec<DrawAt> = draws.iter().map(draw_at).collect();
        let (cache, drawn) = Cache::prefill_and_draw(self.0, prompts, room, &draws, temperature)?;
        Some(Ok((cache, drawn.into_iter().map(sampled).collect())))
    }

    fn decode(&self, tokens: &[u32], cache: &mut Cache) -> Result<Vec<f32>, RolloutError> {
        Ok(cache.step(self.0, tokens))
    }

    fn reuse(&self, cache: &mut Cache, logits: Vec<f32>) {
        cache.reuse(logits);
    }

    fn decode_and_draw(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        draws: &[Draw],
        steps: usize,
        temperature: f64,
    ) -> Option<Result<Vec<Vec<Sampled>>, RolloutError>> {
        let draws: Vec<DrawAt> = draws.iter().map(draw_at).collect();
        let drawn = cache.step_and_draw(self.0, tokens, &draws, steps, temperature)?;
        let steps =
            |steps: Vec<Vec<_>>| steps.into_iter().map(|s| s.into_iter().map(sampled).collect()).collect();
        Some(drawn.map(steps).map_err(RolloutError::model))
    }

    fn steps_between_reads(&self) -> usize {
        match self.0.compute() {
            Compute::Host => 1,
            Compute::Device => 4,
        }
    }

    fn select_rows(&self, cache: Cache, indices: &[usize], room: usize) -> Cache {
        cache.select_rows(self.0, indices, room)
    }

    fn copies_rows(&self) -> bool {
        self.0.compute() != Compute::Host
    }

    fn can_append(&self) -> bool {
        true
    }

    fn append_rows(&self, cache: Cache, other: Cache, room: usize) -> Cache {
        cache.append_rows(self.0, other, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(config: &str) -> Result<Policy, Error> {
        let device = crate::run::device(crate::config::DeviceConfig::Cpu)?;
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-qwen2");
        let config: PolicyConfig = toml::from_str(&format!("path = {model:?}\n{config}")).unwrap();
        Policy::from_config(&config, 0, &device)
    }

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn a_last_message_of_the_assistant_is_continued() {
        let talk = [message("user", "q"), message("assistant", "So\n<think>")];
        let text = golden("").unwrap().prompt_text(&talk).unwrap();
        assert_eq!(text, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nSo\n<think>");
        assert_eq!(golden("").unwrap().raw().prompt_text(&talk).unwrap(), "q\nSo\n<think>");
    }

    #[test]
    fn end_tokens_are_no_text_and_special_tokens_as_the_config_says() {
        let plain = golden("").unwrap();
        let ids = |text: &str| plain.tokenizer().encode(text, false).unwrap();
        let said = ids("<|im_start|>a<|im_end|>");
        assert_eq!(plain.text(&said).unwrap(), "a");
        assert_eq!(golden("keep_special = true").unwrap().text(&said).unwrap(), "<|im_start|>a");
        let letter = ids("b");
        let ends = golden(&format!("eos = [{}, \"<|im_start|>\"]", letter[0])).unwrap();
        assert_eq!(ends.text(&[ids("a"), letter.clone()].concat()).unwrap(), "a");
        assert_eq!(ends.text(&ids("ba")).unwrap(), "ba");
        assert!(ends.eos_token_ids().starts_with(plain.eos_token_ids()) && ends.eos_token_ids().len() == 3);
        assert_eq!(ends.completion("a").unwrap(), [ids("a"), letter].concat());
        let message = golden("eos = [\"<nope>\"]").unwrap_err().to_string();
        assert!(message.contains("policy.eos: \"<nope>\" is no token"), "{message}");
        assert!(golden("eos = [384]").unwrap_err().to_string().contains("policy.eos: 384"));
    }

    #[test]
    fn templates_variables_and_end_tokens_stay_with_a_saved_policy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("chat.jinja");
        let source = "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is true %}<think>{% endif %}";
        std::fs::write(&file, source).unwrap();
        let config =
            format!("chat_template = {file:?}\ntemplate_vars = {{ enable_thinking = true }}\neos = [5]");
        let policy = golden(&config).unwrap();
        let talk = [message("user", "q")];
        assert_eq!(policy.prompt_text(&talk).unwrap(), "q<think>");
        let saved = dir.path().join("saved");
        policy.save(&saved).unwrap();
        let opened = Policy::open(saved.to_str().unwrap(), &policy.decoder.device().clone()).unwrap();
        assert_eq!(opened.prompt_text(&talk).unwrap(), "q<think>");
        assert_eq!(opened.eos_token_ids(), policy.eos_token_ids());
        // What a resumed run does: nothing is written twice.
        let settings: PolicyConfig =
            toml::from_str("template_vars = { enable_thinking = true }\neos = [5]").unwrap();
        let again = opened.configured(&settings).unwrap();
        assert_eq!(again.chat_template(), policy.chat_template());
        assert_eq!(again.eos_token_ids(), policy.eos_token_ids());
        let error = |config: &str| golden(config).unwrap_err().to_string();
        assert!(
            error("template_vars = { enable_thinkin = true }").contains("reads no variable `enable_thinkin`")
        );
        assert!(error("chat_template = \"no/such.jinja\"").contains("no/such.jinja"));
        std::fs::write(&file, "{% if %}").unwrap();
        assert!(error(&format!("chat_template = {file:?}")).contains("chat.jinja, line 1"));
    }
}
