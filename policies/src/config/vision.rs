//! What a `config.json` says of a model's tower: flat configs of the hub and nested ones.
use crate::config::keys::{Keys, MAX_LAYERS};
use crate::error::PolicyError;
use crate::spec::TowerAct;
use crate::tensors::WeightSource;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Families of models that see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionFamily {
    /// Qwen2-VL (arXiv:2409.12191).
    Qwen2,
    /// Qwen2.5-VL (arXiv:2502.13923).
    Qwen25,
    /// Qwen3-VL.
    Qwen3,
    /// Idefics3 and SmolVLM (arXiv:2408.12637, 2504.05299).
    Smol,
}

/// Which names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorNames {
    /// `visual.*` beside `model.*`.
    Hub,
    /// `model.visual.*` beside `model.language_model.*`.
    Nested,
    /// `model.vision_model.*`, `model.connector.*`, `model.text_model.*`.
    Smol,
}

/// A tower and what joins it to the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Vision {
    /// VisionFamily.
    pub family: VisionFamily,
    /// TensorNames of the tensors.
    pub names: TensorNames,
    /// Blocks.
    pub depth: usize,
    /// Width.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub inner: usize,
    /// Pixels a side of a patch.
    pub patch: usize,
    /// Patches a side that become one token.
    pub merge: usize,
    /// Frames of a patch: a still is there that often.
    pub frames: usize,
    /// Activation of the MLP.
    pub act: TowerAct,
    /// ε of the norms.
    pub eps: f64,
    /// Rows of the table of learned positions, a square; 0 without.
    pub positions: usize,
    /// Tokens a side of a window.
    pub window: Option<usize>,
    /// Blocks without windows.
    pub full: Vec<usize>,
    /// Blocks whose output goes into the first blocks of the text.
    pub deep: Vec<usize>,
    /// The token that stands for a row of an image.
    pub image_token: u32,
    /// Which axis turns each rotary frequency of the text: 0 time, 1 height, 2 width. Empty for ordinary positions.
    pub axes: Vec<u8>,
    /// `config.json` as it was opened.
    pub source: Value,
}

/// The model types that see, with that of their text.
const FAMILIES: [(&str, VisionFamily, &str); 5] = [
    ("qwen2_vl", VisionFamily::Qwen2, "qwen2"),
    ("qwen2_5_vl", VisionFamily::Qwen25, "qwen2"),
    ("qwen3_vl", VisionFamily::Qwen3, "qwen3"),
    ("idefics3", VisionFamily::Smol, "llama"),
    ("smolvlm", VisionFamily::Smol, "llama"),
];

/// `model_type` of all of them.
pub(crate) fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, ..)| *name)
}

/// Most pixels of a patch's side, and most patches of a token's: products of a few of them do not overflow.
const MAX_PATCH: u64 = 1 << 10;

/// Keys of a flat config that are not of the text.
const OF_VISION: [&str; 11] = [
    "vision_config",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
    "image_token_id",
    "video_token_id",
    "image_token_index",
    "scale_factor",
    "text_config",
    "transformers_version",
    "pixel_shuffle_factor",
];

impl Vision {
    /// The family of a model type, and the config of its text as a file of its own would have it. None of models that do not
    /// see.
    ///
    /// # Errors
    /// Keys that are missing, of a wrong type, or not supported.
    pub(crate) fn read(root: &Map<String, Value>, path: &Path) -> Result<Option<(Self, Value)>, PolicyError> {
        let keys = Keys { map: root, prefix: "", path };
        let name = keys.str("model_type")?.unwrap_or("");
        let Some((_, family, text_type)) = FAMILIES.iter().find(|(model, ..)| *model == name) else {
            return Ok(None);
        };
        let vision = keys.get("vision_config").and_then(Value::as_object);
        let vision = vision.ok_or_else(|| keys.wrong("vision_config", "is missing"))?;
        let mut text = text_config(root, text_type);
        let sections = sections(&mut text, &keys)?;
        let own = Keys { map: vision, prefix: "vision_config", path };
        let mut read = Self::tower(*family, &own, &keys)?;
        read.source = Value::Object(root.clone());
        if let Some((sections, interleaved)) = sections {
            read.axes = axes(sections, interleaved);
        } else if *family != VisionFamily::Smol {
            return Err(keys.wrong("rope_scaling.mrope_section", "is missing"));
        }
        Ok(Some((read, Value::Object(text))))
    }

    fn tower(family: VisionFamily, own: &Keys<'_>, root: &Keys<'_>) -> Result<Self, PolicyError> {
        let or = |key: &str, default: usize| {
            Ok::<_, PolicyError>(own.size_up_to(key, MAX_PATCH)?.unwrap_or(default))
        };
        let smol = family == VisionFamily::Smol;
        // `hidden_size` is the width of the output in Qwen2-VL.
        let width_key = if family == VisionFamily::Qwen2 { "embed_dim" } else { "hidden_size" };
        let width = own.size(width_key)?;
        let heads = own.size(if smol { "num_attention_heads" } else { "num_heads" })?;
        if !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(if smol { 1 } else { 4 }) {
            return Err(own.wrong("num_heads", &format!("= {heads} does not divide a width of {width}")));
        }
        let depth = if smol { "num_hidden_layers" } else { "depth" };
        let depth = own.size_up_to(depth, MAX_LAYERS)?.ok_or_else(|| own.wrong(depth, "is missing"))?;
        let channels = own.optional_size("in_channels")?.or(own.optional_size("in_chans")?);
        if channels.or(own.optional_size("num_channels")?).is_some_and(|c| c != 3) {
            return Err(own.wrong("in_channels", "is not 3"));
        }
        let inner = match family {
            VisionFamily::Qwen2 => width * or("mlp_ratio", 4)?,
            VisionFamily::Qwen25 | VisionFamily::Qwen3 | VisionFamily::Smol => {
                own.size("intermediate_size")?
            }
        };
        let patch = or("patch_size", if family == VisionFamily::Qwen3 { 16 } else { 14 })?;
        let merge = if smol {
            root.size_up_to("scale_factor", MAX_PATCH)?.unwrap_or(2)
        } else {
            or("spatial_merge_size", 2)?
        };
        let positions = match family {
            VisionFamily::Qwen3 => own.size("num_position_embeddings")?,
            VisionFamily::Smol => (own.size("image_size")? / patch).pow(2),
            VisionFamily::Qwen2 | VisionFamily::Qwen25 => 0,
        };
        let window = match family {
            VisionFamily::Qwen25 => {
                Some((own.optional_size("window_size")?.unwrap_or(112) / merge / patch).max(1))
            }
            VisionFamily::Qwen2 | VisionFamily::Qwen3 | VisionFamily::Smol => None,
        };
        let blocks = |key: &str, default: &[usize]| -> Result<Vec<usize>, PolicyError> {
            let Some(value) = own.get(key) else { return Ok(default.to_vec()) };
            let list = serde_json::from_value::<Vec<usize>>(value.clone());
            let list = list.map_err(|_| own.wrong(key, "is not a list of blocks"))?;
            match list.iter().find(|block| **block >= depth) {
                Some(block) => Err(own.wrong(key, &format!("names block {block} of {depth}"))),
                None => Ok(list),
            }
        };
        let full =
            if window.is_some() { blocks("fullatt_block_indexes", &[7, 15, 23, 31])? } else { Vec::new() };
        let deep =
            if family == VisionFamily::Qwen3 { blocks("deepstack_visual_indexes", &[])? } else { Vec::new() };
        Ok(Self {
            family,
            names: match family {
                VisionFamily::Smol => TensorNames::Smol,
                VisionFamily::Qwen3 => TensorNames::Nested,
                VisionFamily::Qwen2 | VisionFamily::Qwen25 => TensorNames::Hub,
            },
            depth,
            width,
            heads,
            inner,
            patch,
            merge,
            frames: if smol { 1 } else { or("temporal_patch_size", 2)? },
            act: activation(family, own)?,
            eps: own.positive("layer_norm_eps")?.unwrap_or(1e-6),
            positions,
            window,
            full,
            deep,
            image_token: image_token(root)?,
            axes: Vec::new(),
            source: Value::Null,
        })
    }

    /// Takes the names that the tensors of a source have.
    pub(crate) fn named_as(&mut self, weights: &dyn WeightSource) {
        if self.family != VisionFamily::Smol {
            let nested = weights.shape("model.visual.patch_embed.proj.weight").is_some();
            self.names = if nested { TensorNames::Nested } else { TensorNames::Hub };
        }
    }

    /// What names of the text's tensors begin with instead of `model.`.
    pub(crate) fn text_prefix(&self) -> &'static str {
        match self.names {
            TensorNames::Hub => "model.",
            TensorNames::Nested => "model.language_model.",
            TensorNames::Smol => "model.text_model.",
        }
    }

    /// What names of the tower's tensors begin with.
    pub(crate) fn prefix(&self) -> &'static str {
        match self.names {
            TensorNames::Hub => "visual.",
            TensorNames::Nested => "model.visual.",
            TensorNames::Smol => "model.vision_model.",
        }
    }

    /// Values of a patch.
    pub fn patch_values(&self) -> usize {
        3 * self.frames * self.patch * self.patch
    }

    /// `config.json` as it was opened, with what may have changed.
    pub(crate) fn to_json(&self, eos: &Value, tied: bool) -> Value {
        let mut value = self.source.clone();
        let nested = value.get("text_config").is_some();
        let set = |at: &mut Value| {
            let Some(map) = at.as_object_mut() else { return };
            if map.contains_key("eos_token_id") && !eos.is_null() {
                map.insert("eos_token_id".into(), eos.clone());
            }
            if map.get("tie_word_embeddings").and_then(Value::as_bool) == Some(true) && !tied {
                map.insert("tie_word_embeddings".into(), json!(false));
            }
        };
        set(&mut value);
        if nested {
            set(&mut value["text_config"]);
        }
        value
    }
}

/// The activation of the MLPs without a gate.
fn activation(family: VisionFamily, own: &Keys<'_>) -> Result<TowerAct, PolicyError> {
    Ok(match own.str("hidden_act")? {
        Some("quick_gelu") => TowerAct::QuickGelu,
        Some("gelu_pytorch_tanh") => TowerAct::GeluTanh,
        Some("gelu") => TowerAct::Gelu,
        None if family == VisionFamily::Qwen2 => TowerAct::QuickGelu,
        None => TowerAct::GeluTanh,
        Some("silu") if family == VisionFamily::Qwen25 => TowerAct::GeluTanh,
        Some(_) => {
            return Err(own.unsupported("hidden_act", "supported: gelu, gelu_pytorch_tanh, quick_gelu"));
        }
    })
}

/// The token that stands for a row of an image.
fn image_token(root: &Keys<'_>) -> Result<u32, PolicyError> {
    let of = |key: &str| Ok::<_, PolicyError>(root.token_ids(key)?.first().copied());
    let found = of("image_token_id")?.or(of("image_token_index")?);
    found.ok_or_else(|| root.wrong("image_token_id", "is missing"))
}

/// The text's config: its own section over what stands beside it, or the flat file without what is the tower's.
fn text_config(root: &Map<String, Value>, model_type: &str) -> Map<String, Value> {
    let mut text = match root.get("text_config").and_then(Value::as_object) {
        Some(section) => {
            let mut text = section.clone();
            for key in ["tie_word_embeddings", "eos_token_id", "bos_token_id"] {
                if let Some(value) = root.get(key) {
                    // The outer value counts, as transformers reads it; tokens where the section has none.
                    if key == "tie_word_embeddings" || !text.contains_key(key) {
                        text.insert(key.into(), value.clone());
                    }
                }
            }
            text
        }
        None => root.clone(),
    };
    OF_VISION.iter().for_each(|key| drop(text.shift_remove(*key)));
    text.insert("model_type".into(), json!(model_type));
    text.shift_remove("architectures");
    text
}

/// Takes the sections of M-RoPE out of the rotary settings, which then are ordinary ones.
#[allow(clippy::type_complexity)]
fn sections(
    text: &mut Map<String, Value>,
    keys: &Keys<'_>,
) -> Result<Option<([usize; 3], bool)>, PolicyError> {
    let mut found = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(settings) = text.get_mut(key).and_then(Value::as_object_mut) else { continue };
        if let Some(value) = settings.shift_remove("mrope_section") {
            let sections = serde_json::from_value::<[usize; 3]>(value);
            let sections =
                sections.map_err(|_| keys.wrong("rope_scaling.mrope_section", "is not three numbers"))?;
            let interleaved = settings.shift_remove("mrope_interleaved").and_then(|v| v.as_bool());
            found = Some((sections, interleaved.unwrap_or(false)));
        }
        settings.shift_remove("mrope_interleaved");
        for kind in ["type", "rope_type"] {
            if settings.get(kind).and_then(Value::as_str) == Some("mrope") {
                settings.insert(kind.into(), json!("default"));
            }
        }
    }
    Ok(found)
}

/// The axis of every frequency.
fn axes(sections: [usize; 3], interleaved: bool) -> Vec<u8> {
    let half = sections.iter().sum();
    if !interleaved {
        return (0u8..3).zip(sections).flat_map(|(axis, n)| vec![axis; n]).collect();
    }
    let mut axes = vec![0u8; half];
    for axis in [1usize, 2] {
        axes.iter_mut().take(sections[axis] * 3).skip(axis).step_by(3).for_each(|a| *a = axis as u8);
    }
    axes
}
