//! What a decoder sees: the pictures that it was shown, their features, and the gradients that go back into its tower.
use super::Decoder;
use super::kept::Kept;
use crate::config::{Vision, VisionFamily};
use crate::gradients::Gradients;
use crate::host::buffer::Buffer;
use crate::host::ops::HostModel;
use crate::host::rope::RopeTable;
use crate::model::ops::Placed;
use crate::model::tower::{self, Sight, TowerOps};
use crate::packed::{PackedBatch, PictureShape};
use crate::spec::Tower;
use crate::trained::TowerDepth;
use crate::vision::{ImageKey, Layout, Picture, Plan, Processor};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// The pictures that the policies of this process were shown: a key is a hash of the pixels, so that a policy and its
/// reference mean the same by it.
static SHOWN: LazyLock<Mutex<Shown>> =
    LazyLock::new(|| Mutex::new(Shown { origins: HashMap::new(), pixels: Kept::within(MOST_PIXELS) }));

/// Most bytes of the pixels of pictures that can be decoded again.
const MOST_PIXELS: usize = 1 << 30;

/// How a picture is decoded again; what it says otherwise is for people.
pub type PictureSource = Arc<dyn Fn() -> Result<Picture, String> + Send + Sync>;

/// Pictures that were shown: how they are cut for all of them, pixels for as many as a bound allows.
struct Shown {
    origins: HashMap<ImageKey, Origin>,
    pixels: Kept<Arc<Picture>>,
}

#[derive(Clone)]
struct Origin {
    /// How often it was shown.
    times: usize,
    layout: Layout,
    parts: usize,
    held: Held,
}

/// Where the pixels of a picture are.
#[derive(Clone)]
enum Held {
    /// It is all there is.
    Memory(Arc<Picture>),
    Source(PictureSource),
}

/// Features of pictures under the weights of one moment, by key.
pub(super) type Features = Arc<Mutex<Kept<Arc<Seen>>>>;

/// What a tower made of a picture, in the order of its tokens.
#[derive(Debug)]
pub(super) struct Seen {
    /// Rows instead of embeddings, and those that are added behind the first blocks, `[tokens, hidden]` each.
    parts: Vec<Vec<f32>>,
    /// The output of the last block, in the order of the tower: where the projector is trained and no block, nothing else of the
    /// tower is needed again.
    last: Option<Vec<f32>>,
}

/// Whether a backward so deep needs the output of the last block only.
fn ends_in_projector(tower: &Tower, depth: TowerDepth) -> bool {
    depth.first_block >= tower.blocks.len() && tower.deep.is_empty()
}

/// Sets the most bytes of pixels that the process keeps of pictures which can be decoded again, 1 GiB if nobody does. It changes
/// no result.
pub fn keep_pixels_within(bytes: usize) {
    locked(&SHOWN).pixels.bound(bytes);
}

/// Bytes of the pixels that are kept.
pub fn kept_pixels() -> usize {
    locked(&SHOWN).pixels.bytes()
}

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

    /// Shows it, and all other decoders of the process, a picture, which is known by its key from then on and kept in memory.
    pub fn show(&self, picture: Picture) -> ImageKey {
        let (key, layout, parts) = (picture.key, picture.layout, picture.parts.len());
        let held = Held::Memory(Arc::new(picture));
        locked(&SHOWN).origins.entry(key).or_insert(Origin { times: 0, layout, parts, held }).times += 1;
        key
    }

    /// The same with a picture that can be decoded again: its pixels are kept as long as there is room, and decoded when they are
    /// needed and gone.
    pub fn show_from(&self, picture: Picture, source: PictureSource) -> ImageKey {
        let (key, layout, parts, bytes) = (picture.key, picture.layout, picture.parts.len(), picture.bytes());
        let mut shown = locked(&SHOWN);
        let origin = Origin { times: 0, layout, parts, held: Held::Source(source) };
        shown.origins.entry(key).or_insert(origin).times += 1;
        shown.pixels.put(key, Arc::new(picture), bytes);
        key
    }

    /// Puts the pixels of a picture that it was shown at hand again.
    pub fn put_at_hand(&self, picture: Picture) {
        let (key, bytes) = (picture.key, picture.bytes());
        locked(&SHOWN).pixels.put(key, Arc::new(picture), bytes);
    }

    /// Takes back that it was shown a picture, once: of one that nobody was shown any more nothing is kept.
    pub fn forget(&self, key: ImageKey) {
        let mut shown = locked(&SHOWN);
        let Some(origin) = shown.origins.get_mut(&key) else { return };
        origin.times -= 1;
        if origin.times == 0 {
            shown.origins.remove(&key);
            shown.pixels.remove(key);
        }
    }

    /// Whether a picture that it was shown is at hand: its pixels, or what the tower made of them.
    pub fn is_at_hand(&self, key: ImageKey) -> bool {
        if locked(&self.features).has(key) {
            return true;
        }
        let shown = locked(&SHOWN);
        let in_memory = shown.origins.get(&key).is_some_and(|origin| matches!(origin.held, Held::Memory(_)));
        in_memory || shown.pixels.has(key)
    }

    fn origin(key: ImageKey) -> Origin {
        let found = locked(&SHOWN).origins.get(&key).cloned();
        found.unwrap_or_else(|| panic!("picture {key:032x} was not shown"))
    }

    /// What a picture that it was shown is cut into.
    ///
    /// # Panics
    /// If it was not.
    pub fn layout_of(&self, key: ImageKey) -> Layout {
        Self::origin(key).layout
    }

    /// A picture that it was shown.
    ///
    /// # Panics
    /// If there is no such one, or its file is another one by now.
    pub fn shown(&self, key: ImageKey) -> Arc<Picture> {
        if let Some(picture) = locked(&SHOWN).pixels.get(key) {
            return picture;
        }
        match Self::origin(key).held {
            Held::Memory(picture) => picture,
            Held::Source(source) => {
                let picture = match source() {
                    Ok(picture) if picture.key == key => Arc::new(picture),
                    Ok(_) => panic!("a picture has changed since it was read first"),
                    Err(problem) => panic!("a picture cannot be read again: {problem}"),
                };
                locked(&SHOWN).pixels.put(key, picture.clone(), picture.bytes());
                picture
            }
        }
    }

    /// How a tower goes over a picture that it was shown.
    fn plan_of(key: ImageKey, vision: &Vision) -> Plan {
        let Origin { layout, parts, .. } = Self::origin(key);
        Plan::of(layout, parts, vision)
    }

    /// Tokens of a picture that it was shown, and their places.
    fn shape_of(&self, key: ImageKey, vision: &Vision) -> PictureShape {
        let plan = Self::plan_of(key, vision);
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
        if let Some(seen) = locked(&self.features).get(key) {
            return seen;
        }
        let (vision, tower) = self.tower();
        let picture = self.shown(key);
        let (plan, sight, patches) = self.look(&picture, vision);
        let model = self.host(self.held());
        let depth = self.trained.tower_depth(&self.layout);
        let keep = depth.is_some_and(|depth| ends_in_projector(tower, depth));
        let seen = tower::forward(&model, tower, &model.rows_of(&patches), &sight, keep);
        let parts = std::iter::once(&seen.features).chain(&seen.deep);
        let seen = Arc::new(Seen {
            parts: parts.map(|rows| reordered(rows, &plan.order, false)).collect(),
            last: seen.last().map(|rows| rows.to_vec()),
        });
        let bytes = seen.parts.iter().chain(&seen.last).map(Vec::len).sum::<usize>() * size_of::<f32>();
        locked(&self.features).put(key, seen.clone(), bytes);
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
            let model = self.host(self.held());
            let seen = locked(&self.features).get(key);
            if let Some(last) = seen.as_ref().and_then(|seen| seen.last.as_ref())
                && ends_in_projector(tower, depth)
            {
                let order = Self::plan_of(key, vision).order;
                let features = parts.first().map(|d| model.rows_of(&reordered(d, &order, true)));
                let Some(features) = features else { continue };
                tower::backward_of_projector(&model, tower, &model.rows_of(last), &features, depth, grads);
                continue;
            }
            let (plan, sight, patches) = self.look(&self.shown(key), vision);
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
