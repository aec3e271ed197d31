//! Prompts with pictures: places in the text become tokens, pictures are shown to the decoder.
use super::Policy;
use crate::error::Error;
use crate::files::picture::{bytes_of, named};
use rayon::prelude::*;
use rlvr_policies::config::VisionFamily;
use rlvr_policies::vision::{Layout, Picture, Processor};
use rlvr_policies::{Decoder, ImageKey};
use rlvr_rewards::{IMAGE_PLACE, Message, Task, TaskImage};
use rlvr_rollout::Prompt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Keys of pictures that were shown, by what they were made of.
pub(super) type Known = Mutex<HashMap<TaskImage, ImageKey>>;

fn unusable(what: String) -> Error {
    Error::Unusable { what }
}

impl Policy {
    /// Whether the policy sees pictures.
    pub fn sees(&self) -> bool {
        self.decoder.vision().is_some()
    }

    /// The prompt of a task, with its pictures, which are decoded and shown to the decoder.
    ///
    /// # Errors
    /// As [`Self::prompt`] and [`Self::asked`].
    pub fn prompt_of(&self, task: &Task) -> Result<Prompt, Error> {
        self.asked(&task.prompt, &task.images)
    }

    /// The prompt of messages with pictures in the places [`IMAGE_PLACE`] of their text.
    ///
    /// # Errors
    /// As [`Self::prompt`]; pictures for a policy that does not see, that cannot be read, or that are not as many as their
    /// places.
    pub fn asked(&self, messages: &[Message], images: &[TaskImage]) -> Result<Prompt, Error> {
        if images.is_empty() {
            return self.prompt(messages);
        }
        let (keys, layouts) = self.pictures(images)?;
        let token_ids = self.ids_around(messages, &layouts)?;
        Ok(Prompt { token_ids, images: keys })
    }

    /// Shows pictures to the decoder: their keys, and what they are cut into.
    ///
    /// # Errors
    /// As [`Self::asked`].
    pub(crate) fn pictures(&self, images: &[TaskImage]) -> Result<(Vec<ImageKey>, Vec<Layout>), Error> {
        let keys = images.par_iter().map(|image| self.shown(image)).collect::<Result<Vec<_>, _>>()?;
        let layouts = keys.iter().map(|key| self.decoder.layout_of(*key)).collect();
        Ok((keys, layouts))
    }

    /// What pictures are cut into: only their beginnings are decoded.
    ///
    /// # Errors
    /// As [`Self::asked`].
    pub(crate) fn layouts(&self, images: &[TaskImage]) -> Result<Vec<Layout>, Error> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let processor = self.processor()?;
        let layout = |image: &TaskImage| {
            let bytes = bytes_of(image).map_err(unusable)?;
            processor.layout_of_file(&bytes).map_err(|e| unusable(named(image, &e)))
        };
        images.iter().map(layout).collect()
    }

    /// The text that those tokens are of, with the tokens of every picture in it, and the keys of the pictures.
    ///
    /// # Errors
    /// As [`Self::asked`].
    pub fn asked_text(
        &self,
        messages: &[Message],
        images: &[TaskImage],
    ) -> Result<(String, Vec<ImageKey>), Error> {
        let text = self.prompt_text(messages)?;
        if images.is_empty() {
            return Ok((text, Vec::new()));
        }
        let (keys, layouts) = self.pictures(images)?;
        Ok((self.expanded(&text, &layouts)?, keys))
    }

    /// Lets go of the pictures that this policy and its clones were shown. Prompts that were made with them cannot be used any
    /// more.
    pub fn forget_images(&self) {
        let mut known = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        known.drain().for_each(|(_, key)| self.decoder.forget(key));
    }

    /// The key of a picture and how many tokens it takes; it is not kept.
    ///
    /// # Errors
    /// A picture that cannot be read, or a policy that does not see.
    pub fn looked_at(&self, image: &TaskImage) -> Result<(ImageKey, usize), Error> {
        let processor = self.processor()?;
        let picture = opened(processor, image)?;
        Ok((picture.key, processor.tokens_of(picture.layout)))
    }

    /// How many tokens that prompt has: only the beginnings of pictures are decoded.
    ///
    /// # Errors
    /// As [`Self::asked`].
    pub fn prompt_tokens(&self, messages: &[Message], images: &[TaskImage]) -> Result<usize, Error> {
        if images.is_empty() {
            return Ok(self.prompt(messages)?.token_ids.len());
        }
        Ok(self.ids_around(messages, &self.layouts(images)?)?.len())
    }

    /// Tokens of a prompt as text, with one token for each picture, or tile of one.
    ///
    /// # Errors
    /// Whatever the tokenizer reports.
    pub fn seen_text(&self, ids: &[u32], images: &[ImageKey]) -> Result<String, Error> {
        let mut ids = ids.to_vec();
        if let Some(vision) = self.decoder.vision().filter(|_| !images.is_empty()) {
            ids.dedup_by(|a, b| a == b && *a == vision.image_token);
        }
        Ok(self.tokenizer.decode(&ids, false)?)
    }

    /// What records call the pictures of a prompt.
    pub fn image_names(&self, images: &[TaskImage], keys: &[ImageKey]) -> Vec<String> {
        let name = |(image, key): (&TaskImage, &ImageKey)| match image {
            TaskImage::Path(path) => path.display().to_string(),
            TaskImage::Bytes(_) => format!("data:{key:032x}"),
        };
        images.iter().zip(keys).map(name).collect()
    }

    /// What samples call the pictures of a task; null without any.
    ///
    /// # Errors
    /// As [`Self::asked`].
    pub fn names_of(&self, task: &Task) -> Result<Value, Error> {
        if task.images.is_empty() {
            return Ok(Value::Null);
        }
        Ok(json!(self.image_names(&task.images, &self.pictures(&task.images)?.0)))
    }

    fn processor(&self) -> Result<&Processor, Error> {
        self.decoder.processor().ok_or_else(|| {
            let what = "the prompt has images, and the policy does not see: take them away, use a policy that does, or give \
                        this one a tower with a [policy.vision] table";
            unusable(what.into())
        })
    }

    /// The key of a picture, which is decoded the first time, and again where nothing of it is at hand any more.
    fn shown(&self, image: &TaskImage) -> Result<ImageKey, Error> {
        let known = || self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(image).copied();
        if let Some(key) = before.filter(|key| self.decoder.is_at_hand(*key)) {
            return Ok(key);
        }
        let (processor, origin) = (self.processor()?.clone(), image.clone());
        let open = move || opened(&processor, &origin);
        let picture = open()?;
        if let Some(key) = before {
            if key != picture.key {
                return Err(unusable(named(image, &"the picture has changed since it was read first")));
            }
            self.decoder.put_at_hand(picture);
            return Ok(key);
        }
        let again = move || open().map_err(|e| e.to_string());
        let key = self.decoder.show_from(picture, Arc::new(again));
        if known().insert(image.clone(), key).is_some() {
            // Another thread has shown it meanwhile.
            self.decoder.forget(key);
        }
        Ok(key)
    }

    /// What stands for one token of a picture in texts.
    fn image_token(&self) -> Result<(u32, String), Error> {
        let vision = self.decoder.vision().ok_or_else(|| unusable("the policy does not see".into()))?;
        let token = self.tokenizer.id_to_token(vision.image_token);
        let missing = || unusable(format!("the tokenizer has no token {}, the image's", vision.image_token));
        Ok((vision.image_token, token.ok_or_else(missing)?))
    }

    /// Refuses text in which an image token is spelled out.
    fn unspelled(&self, messages: &[Message]) -> Result<(), Error> {
        let (_, token) = self.image_token()?;
        match messages.iter().flat_map(|m| m.content.split(IMAGE_PLACE)).any(|text| text.contains(&token)) {
            true => Err(unusable(format!("the text has {token:?} in it, which stands for images only"))),
            false => Ok(()),
        }
    }

    /// Messages as the chat template is told them: in parts where it knows of images; where it knows text only, image tokens
    /// are text.
    pub(super) fn told(&self, messages: &[Message]) -> Result<Vec<Value>, Error> {
        let plain = |m: &Message| json!({"role": m.role, "content": m.content});
        let Some(vision) = self.decoder.vision() else { return Ok(messages.iter().map(plain).collect()) };
        self.unspelled(messages)?;
        if self.template.as_ref().is_some_and(|template| template.source().contains("image")) {
            return Ok(messages.iter().map(in_parts).collect());
        }
        let (_, token) = self.image_token()?;
        let around = match vision.family {
            VisionFamily::Smol => token,
            VisionFamily::Qwen2 | VisionFamily::Qwen25 | VisionFamily::Qwen3 => {
                format!("<|vision_start|>{token}<|vision_end|>")
            }
        };
        let with = |m: &Message| json!({"role": m.role, "content": m.content.replace(IMAGE_PLACE, &around)});
        Ok(messages.iter().map(with).collect())
    }

    fn ids_around(&self, messages: &[Message], layouts: &[Layout]) -> Result<Vec<u32>, Error> {
        self.seeing_ids(&self.prompt_text(messages)?, layouts, self.template.is_none())
    }

    /// Token ids of a text with one image token for each picture, which becomes as many as the picture has; `special` as in
    /// [`Self::encode`].
    ///
    /// # Errors
    /// As [`Self::encode`]; another number of places than of pictures.
    pub(crate) fn seeing_ids(
        &self,
        text: &str,
        layouts: &[Layout],
        special: bool,
    ) -> Result<Vec<u32>, Error> {
        let Some(vision) = self.decoder.vision() else { return self.encode(text, special) };
        let places = text.matches(self.image_token()?.1.as_str()).count();
        if places != layouts.len() {
            let what = format!("the prompt has {places} places for images, and {} images", layouts.len());
            return Err(unusable(what));
        }
        let ids = self.encode(&self.expanded(text, layouts)?, special)?;
        let processor = self.processor()?;
        let tokens: usize = layouts.iter().map(|layout| processor.tokens_of(*layout)).sum();
        let found = ids.iter().filter(|i| **i == vision.image_token).count();
        if found != tokens {
            let what = format!(
                "images of {tokens} tokens have {found} in the prompt: the tokenizer does not know them"
            );
            return Err(unusable(what));
        }
        Ok(ids)
    }

    /// A text, or the beginning of one, with what stands for each picture in the place of its one image token.
    ///
    /// # Errors
    /// A policy whose tokenizer does not know that token.
    pub(crate) fn expanded(&self, text: &str, layouts: &[Layout]) -> Result<String, Error> {
        if layouts.is_empty() {
            return Ok(text.to_owned());
        }
        let ((_, token), processor) = (self.image_token()?, self.processor()?);
        let mut pieces = text.split(token.as_str());
        let mut whole = pieces.next().unwrap_or("").to_owned();
        for (layout, piece) in layouts.iter().zip(pieces) {
            whole.push_str(&processor.expansion(*layout, &token));
            whole.push_str(piece);
        }
        Ok(whole)
    }

    /// How many of the pictures have their tokens in these ids, which are the first ones of a text.
    pub(crate) fn pictures_in(&self, ids: &[u32], layouts: &[Layout]) -> usize {
        let (Some(vision), Some(processor)) = (self.decoder.vision(), self.decoder.processor()) else {
            return 0;
        };
        let mut left = ids.iter().filter(|id| **id == vision.image_token).count();
        let inside = layouts.iter().take_while(|layout| {
            let tokens = processor.tokens_of(**layout);
            let fits = tokens <= left;
            left -= if fits { tokens } else { 0 };
            fits
        });
        inside.count()
    }
}

/// What stands around pictures in prompts of a policy without a tokenizer of its own, and, as the last, for their rows.
pub(super) fn marks(decoder: &Decoder) -> Vec<String> {
    let Some(vision) = decoder.vision() else { return Vec::new() };
    let mut marks: Vec<String> = match vision.family {
        VisionFamily::Smol => {
            let tiles = (1..=8).flat_map(|r| (1..=8).map(move |c| format!("<row_{r}_col_{c}>")));
            let around = ["<fake_token_around_image>", "<global-img>", "\n"].map(str::to_owned);
            around.into_iter().chain(tiles).collect()
        }
        VisionFamily::Qwen2 | VisionFamily::Qwen25 | VisionFamily::Qwen3 => {
            ["<|vision_start|>", "<|vision_end|>"].map(str::to_owned).into()
        }
    };
    marks.push("<|image|>".to_owned());
    marks
}

fn opened(processor: &Processor, image: &TaskImage) -> Result<Picture, Error> {
    let bytes = bytes_of(image).map_err(unusable)?;
    processor.open(&bytes).map_err(|e| unusable(named(image, &e)))
}

/// A message as models that see are told it: content in parts.
fn in_parts(message: &Message) -> Value {
    let mut parts = Vec::new();
    for (i, text) in message.content.split(IMAGE_PLACE).enumerate() {
        if i > 0 {
            parts.push(json!({"type": "image"}));
        }
        if !text.is_empty() {
            parts.push(json!({"type": "text", "text": text}));
        }
    }
    json!({"role": message.role, "content": parts})
}
