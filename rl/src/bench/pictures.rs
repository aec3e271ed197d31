//! What pictures cost: the tower forward, and backward.
use super::cost::measure;
use super::phases::Bench;
use rlvr_policies::gradients::Gradients;
use rlvr_policies::vision::{Plan, encode_png};
use rlvr_policies::{Decoder, ImageKey};
use rlvr_rewards::TaskImage;
use rlvr_rollout::CounterRng;
use std::collections::BTreeSet;

/// A square picture of noise: the `number`th.
pub(super) fn random(number: usize, side: usize) -> TaskImage {
    let rng = CounterRng::new(1, 0, number as u64, u64::MAX - 2);
    let pixels: Vec<u8> = (0..3 * side * side).map(|i| (256.0 * rng.uniform(i as u64)) as u8).collect();
    TaskImage::Bytes(encode_png(side, side, &pixels).into())
}

/// Floating-point operations of a tower and of its projectors forward over these pictures, products only.
fn flops(decoder: &Decoder, keys: &BTreeSet<ImageKey>) -> (f64, f64) {
    let Some(vision) = decoder.vision() else { return (0.0, 0.0) };
    let size = |part: &str| -> f64 {
        let specs = decoder.layout().specs.iter().filter(|s| s.name.starts_with(part) && !s.is_vector());
        specs.map(|s| (s.shape[0] * s.shape[1]) as f64).sum()
    };
    // A row of the table of positions is added, not multiplied.
    let tower = size("vision.") - (vision.positions * vision.width) as f64;
    let plans = keys.iter().map(|key| Plan::new(&decoder.shown(*key), vision));
    let (patches, tokens) = plans.fold((0, 0), |(p, t), plan| (p + plan.patches.len(), t + plan.tokens()));
    (2.0 * tower * patches as f64, 2.0 * size("projector.") * tokens as f64)
}

impl Bench<'_> {
    /// Features of all pictures, and the gradients of the tower's parameters for gradients of those.
    pub(super) fn pictures(&mut self) {
        let decoder = &self.trainer.policy.decoder;
        let keys: BTreeSet<ImageKey> = self.batch.prompts.iter().flat_map(|p| p.images.clone()).collect();
        if keys.is_empty() {
            return;
        }
        let repeat = self.settings.repeat;
        let tokens = keys.iter().map(|key| decoder.features(*key)[0].len()).sum::<usize>()
            / decoder.config().hidden_size;
        let look = || keys.iter().map(|key| decoder.features(*key)).collect::<Vec<_>>();
        let seen = measure((&self.device, repeat), || decoder.forget_features(), |()| look());
        let (tower, projector) = flops(decoder, &keys);
        let back = measure(
            (&self.device, repeat),
            || {
                let mut grads = decoder.zero_gradients();
                if let Gradients::Host(_, pictures) = &mut grads {
                    pictures.extend(keys.iter().map(|key| (*key, decoder.features(*key))));
                }
                grads
            },
            |mut grads| {
                decoder.see_back(&mut grads);
                grads
            },
        );
        // What it does not keep is computed again, the tower's blocks once more on the way back; then a product for each gradient.
        let back_flops = match decoder.trained_parts().tower_depth(decoder.layout()) {
            None => 0.0,
            Some(depth) if depth.below_projector => 4.0 * tower + 3.0 * projector,
            Some(_) => 2.0 * projector,
        };
        self.note("see", seen, tokens, tower + projector, None);
        if back_flops > 0.0 {
            self.note("see_back", back, tokens, back_flops, None);
        }
    }
}
