//! What a decoder sees: the pictures that it was shown, their features, and the gradients that go back into its tower.
use super::Decoder;
use crate::config::{Vision, VisionFamily};
use crate::gradients::Gradients;
use crate::host::buffer::Buffer;
use crate::host::ops::HostModel;
use crate::host::rope::RopeTable;
use crate::model::ops::Placed;
use crate::model::tower::{self, Sight, TowerOps};
use crate::packed::{PackedBatch, PictureShape};
use crate::spec::Tower;
use crate::vision::{ImageKey, Picture, Plan, Processor};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// The pictures that the policies of this process were shown, and how often: a key is a hash of the pixels, so that a policy and
/// its reference mean the same by it.
static SHOWN: LazyLock<Mutex<Shown>> = LazyLock::new(Mutex::default);

type Shown = HashMap<ImageKey, (Arc<Picture>, usize)>;

/// Features of pictures under the weights of one moment, by key.
pub(super) type Features = Arc<Mutex<HashMap<ImageKey, Arc<Seen>>>>;

/// What a tower made of a picture, in the order of its tokens.
#[derive(Debug)]
pub(super) struct Seen {
    /// Rows instead of embeddings, and those that are added behind the first blocks, `[tokens, hidden]` each.
    parts: Vec<Vec<f32>>,
}

/// Most bytes of features that are kept.
const MOST: usize = 2 << 30;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows in another order: row i of the result is row `order⁻¹(i)`, or with `back` row `order(i)`.
fn reordered(rows: &[f32], order: &[usize], back: bool) -> Vec<f32> {
    let width = rows.len() / order.len().max(1);
    let mut out = vec![0f32; rows.len()];
    for (tower, token) in order.iter().enumerate() {
        let (from, to) = if back { (*token, tower) } else { (tower, *token) };
        out[to * width..(to + 1) * width].copy_from_slice(&rows[from * width..(from + 1) * width]);
    }
    out
}

impl Decoder {
    /// The same decoder with what makes pictures of files.
    #[must_use]
    pub fn with_processor(mut self, processor: Processor) -> Self {
        self.processor = Some(Arc::new(processor));
        self
    }

    /// The same decoder with another bound of a picture's pixels.
    #[must_use]
    pub fn with_max_pixels(mut self, most: usize) -> Self {
        let fewer = |processor: Arc<Processor>| Arc::new((*processor).clone().with_max_pixels(most));
        self.processor = self.processor.map(fewer);
        self
    }

    /// The same decoder with another token in the place of a picture's row. Nothing changes for models that do not see.
    #[must_use]
    pub fn with_image_token(mut self, id: u32) -> Self {
        if let Some(vision) = &mut Arc::make_mut(&mut self.config).vision {
            vision.image_token = id;
        }
        self
    }

    /// What makes pictures of files; none of models that do not see.
    pub fn processor(&self) -> Option<&Processor> {
        self.processor.as_deref()
    }

    /// Its tower's config; none of models that do not see.
    pub fn vision(&self) -> Option<&Vision> {
        self.config.vision.as_deref()
    }

    /// Shows it, and all other decoders of the process, a picture, which is known by its key from then on.
    pub fn show(&self, picture: Picture) -> ImageKey {
        let key = picture.key;
        locked(&SHOWN).entry(key).or_insert_with(|| (Arc::new(picture), 0)).1 += 1;
        key
    }

    /// Takes back that it was shown a picture, once: one that nobody was shown any more is no longer kept.
    pub fn forget(&self, key: ImageKey) {
        let mut shown = locked(&SHOWN);
        if let Some((_, times)) = shown.get_mut(&key) {
            *times -= 1;
            if *times == 0 {
                shown.remove(&key);
            }
        }
    }

    /// A picture that it was shown.
    ///
    /// # Panics
    /// If there is no such one.
    pub fn shown(&self, key: ImageKey) -> Arc<Picture> {
        let found = locked(&SHOWN).get(&key).map(|(picture, _)| picture.clone());
        found.unwrap_or_else(|| panic!("picture {key:032x} was not shown"))
    }

    /// Tokens of a picture that it was shown, and their places.
    fn shape_of(&self, key: ImageKey, vision: &Vision) -> PictureShape {
        let plan = Plan::new(&self.shown(key), vision);
        let grid = plan.grid.filter(|_| vision.family != VisionFamily::Smol);
        PictureShape { key, tokens: plan.tokens(), grid }
    }

    /// Puts pictures into a batch, a list of keys for each group.
    ///
    /// # Panics
    /// If the prompts do not have as many image tokens as the pictures, if one was not shown, or if there are some and the
    /// model does not see.
    pub fn place(&self, batch: &mut PackedBatch, pictures: &[&[ImageKey]]) {
        if pictures.iter().all(|of| of.is_empty()) {
            return;
        }
        let Some(vision) = self.vision() else { panic!("a policy that does not see was given pictures") };
        let shapes = |of: &&[ImageKey]| of.iter().map(|key| self.shape_of(*key, vision)).collect();
        let shapes: Vec<Vec<PictureShape>> = pictures.iter().map(shapes).collect();
        batch.see(vision.image_token, &shapes).unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// A batch as its passes are given it, and the model that computes them: places of three axes are rows behind the
    /// tables of the rotations, pictures are features.
    pub(super) fn seeing(&self, mut batch: PackedBatch, mut model: HostModel) -> (PackedBatch, HostModel) {
        if batch.pictures.is_empty() {
            return (batch, model);
        }
        let axes = self.vision().map_or(&[][..], |vision| &vision.axes);
        let places: Vec<[u32; 3]> = batch.places.iter().map(|(_, place)| *place).collect();
        model.ropes = model.ropes.iter().map(|rope| rope.with_places(&places, axes)).collect();
        let first = model.ropes.first().map_or(0, RopeTable::positions);
        for (i, (row, _)) in batch.places.iter().enumerate() {
            batch.positions[*row] = (first + i) as u32;
        }
        let seen: Vec<Arc<Seen>> = batch.pictures.iter().map(|p| self.seen(p.key)).collect();
        let part = |i: usize| {
            let rows: Vec<f32> = seen.iter().flat_map(|seen| seen.parts[i].iter().copied()).collect();
            model.rows_of(&rows)
        };
        let deep = (1..seen.first().map_or(1, |seen| seen.parts.len())).map(part).collect();
        let rows = batch.pictures.iter().flat_map(|p| p.rows.iter().copied()).collect();
        let features = part(0);
        model.pictures = Some(Placed { rows, features, deep });
        (batch, model)
    }

    /// The features of a picture under the weights of now, kept until these change.
    fn seen(&self, key: ImageKey) -> Arc<Seen> {
        if let Some(seen) = locked(&self.features).get(&key) {
            return seen.clone();
        }
        let (vision, tower) = self.tower();
        let picture = self.shown(key);
        let (plan, sight, patches) = self.look(&picture, vision);
        let model = self.host(self.held());
        let seen = tower::forward(&model, tower, &model.rows_of(&patches), &sight, false);
        let parts = std::iter::once(&seen.features).chain(&seen.deep);
        let seen = Arc::new(Seen { parts: parts.map(|rows| reordered(rows, &plan.order, false)).collect() });
        let mut kept = locked(&self.features);
        let bytes = |seen: &Seen| seen.parts.iter().map(Vec::len).sum::<usize>() * size_of::<f32>();
        if kept.values().map(|seen| bytes(seen)).sum::<usize>() + bytes(&seen) > MOST {
            kept.clear();
        }
        kept.insert(key, seen.clone());
        seen
    }

    /// The features of a picture that it was shown, `[tokens, hidden]`: for tests.
    ///
    /// # Panics
    /// If it was not, or the model does not see.
    pub fn features(&self, key: ImageKey) -> Vec<Vec<f32>> {
        self.seen(key).parts.clone()
    }

    fn tower(&self) -> (&Vision, &Tower) {
        match (self.vision(), &self.layout.model.tower) {
            (Some(vision), Some(tower)) => (vision, tower),
            _ => panic!("this policy does not see"),
        }
    }

    /// How the tower goes over a picture, and the values of its patches.
    fn look(&self, picture: &Picture, vision: &Vision) -> (Plan, Sight, Vec<f32>) {
        let Some(processor) = self.processor() else { panic!("this policy has no processor of pictures") };
        let plan = Plan::new(picture, vision);
        let patches = plan.values(picture, processor, vision);
        let sight = Sight {
            rotation: plan.rotation(vision),
            whole: plan.whole.clone(),
            windows: plan.windows.clone(),
            places: plan.places.clone(),
        };
        (plan, sight, patches)
    }

    /// Gives the memory of features back; they are computed again when they are asked for.
    pub fn forget_features(&self) {
        locked(&self.features).clear();
    }

    /// Has features of its own from here on: something of the tower has changed.
    pub(super) fn own_features(&mut self) {
        self.features = Features::default();
    }

    /// Adds to gradients what those of pictures' features are in the tower and the projectors: its backward, once for each
    /// picture of an update, however many passes had it. To be called before the gradients are used.
    pub fn see_back(&self, grads: &mut Gradients) {
        let Gradients::Host(grads, pictures) = grads else { return };
        let Some(depth) = self.trained.tower_depth(&self.layout) else { return };
        for (key, parts) in std::mem::take(pictures) {
            let (vision, tower) = self.tower();
            let (plan, sight, patches) = self.look(&self.shown(key), vision);
            let model = self.host(self.held());
            let patches = model.rows_of(&patches);
            let seen = tower::forward(&model, tower, &patches, &sight, true);
            let mut parts = parts.iter().map(|d| model.rows_of(&reordered(d, &plan.order, true)));
            let Some(features) = parts.next() else { continue };
            let deep: Vec<Buffer> = parts.collect();
            tower::backward(&model, tower, patches, &sight, seen, (&features, &deep), depth, grads);
        }
    }
}

/// Adds the gradients of a batch's pictures to those of the update.
pub(super) fn add(
    sums: &mut crate::gradients::OfPictures,
    batch: &PackedBatch,
    found: &crate::model::pass::OfPictures<HostModel>,
) {
    let all: usize = batch.pictures.iter().map(|p| p.rows.len()).sum();
    for (i, part) in std::iter::once(&found.features).chain(&found.deep).enumerate() {
        let (width, mut at) = (part.len() / all.max(1), 0);
        for picture in &batch.pictures {
            let own = &part[at..at + picture.rows.len() * width];
            at += own.len();
            let parts = sums.entry(picture.key).or_default();
            match parts.get_mut(i) {
                Some(sum) => sum.iter_mut().zip(own).for_each(|(sum, d)| *sum += d),
                None => parts.push(own.to_vec()),
            }
        }
    }
}
