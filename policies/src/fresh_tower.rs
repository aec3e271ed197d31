//! A tower with random weights in front of a text model that has none: a model of Idefics3's layout (arXiv:2408.12637), which
//! SmolVLM has too and transformers loads.
//!
//! The text's tokenizer gets three tokens at its end, as SmolVLM's has them, and is not given unused ones of its own:
//! processors look for them by name, and what an unused token was trained to mean would stand around every picture. Their
//! rows of the embedding and the head begin as the mean of the others, so that none is likelier than a token is on average
//! (Jensen's inequality).

use crate::chat_template::ChatTemplate;
use crate::config::{Architecture, ModelConfig};
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::save::PolicyAssets;
use crate::tokenizer::Tokenizer;
use crate::vision::Processor;
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::AddedToken;

/// Sizes of a tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerSizes {
    /// Pixels a side: pictures are made squares of this size.
    pub image: usize,
    /// Pixels a side of a patch.
    pub patch: usize,
    /// Patches a side that become one token.
    pub scale: usize,
    /// Blocks.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
}

impl TowerSizes {
    /// Tokens that stand for a picture; two around it and one before it come with them.
    pub fn tokens(&self) -> usize {
        (self.image / self.patch / self.scale).pow(2)
    }
}

/// What stands in a prompt for a row of a picture, around a picture, and before the picture as a whole.
const TOKENS: [&str; 3] = ["<image>", "<fake_token_around_image>", "<global-img>"];

/// Turns messages in parts into messages of text for the template behind it, which knows no others.
const FLATTEN: &str = "\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set said = namespace(text='') -%}
{%- for part in message.content -%}
{%- set said.text = said.text + ('<image>' if part.type == 'image' else part.text) -%}
{%- endfor -%}
{%- set flat.messages = flat.messages + [{'role': message.role, 'content': said.text}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
";

/// What a policy consists of, to be given a tower.
#[derive(Debug)]
pub struct Text<'a> {
    /// Gets the tokens of pictures.
    pub tokenizer: &'a mut Tokenizer,
    /// Get what a saved folder says of pictures.
    pub assets: &'a mut PolicyAssets,
    /// Is made to write pictures, if it does not.
    pub template: &'a mut Option<ChatTemplate>,
}

impl Decoder {
    /// The same text with a tower in front of it, whose weights `normal(parameter, element)` gives: normal, with the variance of
    /// PyTorch's linear layers (`1 / (3 · inputs)`), positions with standard deviation 0.02, factors of norms one, biases zero.
    ///
    /// # Errors
    /// A text that has a tower or an adapter, is of another family than Llama's, or does not lie on the CPU; sizes that do not
    /// fit together.
    pub fn with_fresh_tower(
        &self,
        sizes: &TowerSizes,
        text: Text<'_>,
        normal: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Result<Self, PolicyError> {
        let refused = |what: String| Err(PolicyError::Tower { what });
        if self.vision().is_some() {
            return refused("the policy has a tower already: take the table away to train that one".into());
        }
        if self.lora().is_some() {
            return refused("the policy has an adapter: merge it into its base first (rlvr merge)".into());
        }
        if self.config().architecture != Architecture::Llama {
            let family = self.config().architecture.model_type();
            let what = format!(
                "a new tower stands before a model of the family llama, such as SmolLM2; this is {family}"
            );
            return refused(what);
        }
        if !self.is_on_host() {
            return refused("a policy that sees computes on the CPU only: set device = \"cpu\"".into());
        }
        let known = text.tokenizer.vocab_size().min(self.config().vocab_size);
        let fresh = add_tokens(text.tokenizer, text.assets)?;
        let Some(image) = text.tokenizer.token_to_id(TOKENS[0]) else {
            return refused(format!("the tokenizer does not take the token {}", TOKENS[0]));
        };
        let config = seeing(self.config(), text.tokenizer.vocab_size(), sizes, image)?;
        let (settings, names) = (preprocessor(sizes), "preprocessor_config.json");
        let vision = config.vision.as_ref().map(|v| Processor::read(&settings, Path::new(names), v));
        let Some(processor) = vision.transpose()? else { return refused("the config has no tower".into()) };
        let own = json!({"image_seq_len": sizes.tokens(), "processor_class": "Idefics3Processor"});
        text.assets.processors =
            vec![(names.into(), settings), ("processor_config.json".into(), object(own))];
        if let Some(template) = text.template.as_mut().filter(|t| !t.source().contains("image")) {
            let source = format!("{FLATTEN}{}", template.source());
            *template = template.with_source(&source, Path::new("chat_template.jinja"));
            text.assets.set_chat_template(&source);
        }
        Ok(self.with_tower(config, (known, &fresh), normal).with_processor(processor))
    }
}

/// Adds the tokens of pictures, and returns the ids of those that were not there.
fn add_tokens(tokenizer: &mut Tokenizer, assets: &mut PolicyAssets) -> Result<Vec<u32>, PolicyError> {
    let new: Vec<&str> =
        TOKENS.iter().copied().filter(|token| tokenizer.token_to_id(token).is_none()).collect();
    tokenizer.add_tokens(TOKENS.map(|token| AddedToken::from(token, true).normalized(false)));
    assets.tokenizer_json = tokenizer.to_json()?.into_bytes();
    let ids: Vec<(u32, &str)> =
        new.into_iter().filter_map(|token| Some((tokenizer.token_to_id(token)?, token))).collect();
    if let Some(Value::Object(listed)) = assets.tokenizer_config.get_mut("added_tokens_decoder") {
        for (id, token) in &ids {
            let flags = json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false,
                               "single_word": false, "special": true});
            listed.insert(id.to_string(), flags);
        }
    }
    Ok(ids.into_iter().map(|(id, _)| id).collect())
}

/// The config of a text with a tower, as its `config.json` will be read.
fn seeing(
    text: &ModelConfig,
    tokens: usize,
    sizes: &TowerSizes,
    image_token: u32,
) -> Result<ModelConfig, PolicyError> {
    let vocab_size = text.vocab_size.max(tokens);
    let own = ModelConfig { vocab_size, ..text.clone() }.to_hf_json();
    let side = json!({"longest_edge": sizes.image});
    let config = json!({
        "architectures": ["Idefics3ForConditionalGeneration"],
        "model_type": "idefics3",
        "image_token_id": image_token,
        "scale_factor": sizes.scale,
        "tie_word_embeddings": text.tie_word_embeddings,
        "bos_token_id": own["bos_token_id"],
        "eos_token_id": own["eos_token_id"],
        "pad_token_id": own["pad_token_id"],
        "use_cache": true,
        "text_config": own,
        "vision_config": {
            "model_type": "idefics3_vision",
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.intermediate,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_channels": 3,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "max_image_size": side,
            "size": side,
        },
    });
    let read = ModelConfig::from_hf_json(&config, Path::new("config.json"))?;
    // A file says less of these than the text knows.
    Ok(ModelConfig {
        bos_token_id: text.bos_token_id,
        eos_token_ids: text.eos_token_ids.clone(),
        pad_token_id: text.pad_token_id,
        ..read
    })
}

/// `preprocessor_config.json` of pictures that are not cut into tiles.
fn preprocessor(sizes: &TowerSizes) -> Map<String, Value> {
    let (half, side) = (json!([0.5, 0.5, 0.5]), json!({"longest_edge": sizes.image}));
    object(json!({
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "do_convert_rgb": true,
        "do_image_splitting": false,
        "do_normalize": true,
        "do_pad": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": half,
        "image_std": half,
        "max_image_size": side,
        "size": side,
        "resample": 1,
        "rescale_factor": 1.0 / 255.0,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
