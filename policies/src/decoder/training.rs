//! What of a decoder training changes.
use super::{Compute, Decoder};
use crate::spec::ParamSpec;
use crate::trained::Trained;
use std::sync::Arc;

impl Decoder {
    /// The same decoder of which training changes only the tensors that `trains` names, by parameter and part of it. Of the
    /// others there are no gradients; their packed matrices are kept, for they do not change, and shared with clones.
    ///
    /// # Panics
    /// Off the host, if a parameter is trained in part: only whole ones are there.
    #[must_use]
    pub fn with_trained(mut self, trains: impl FnMut(usize, usize) -> bool) -> Self {
        let trained = Trained::new(&self.layout, trains);
        let whole = |(i, s): (usize, &ParamSpec)| [0, s.shape[0] * s.shape[1]].contains(&trained.len(i));
        let all_whole = self.layout.specs.iter().enumerate().all(whole);
        assert!(
            self.compute() == Compute::Host || all_whole,
            "parts of a parameter are trained on the CPU only"
        );
        let kept = |i: usize| !trained.flags()[i] && self.narrow_matrix(i).is_none();
        let frozen = (0..trained.flags().len()).map(|i| kept(i).then(Arc::default));
        // What was packed before is of no use where something becomes trained.
        self.frozen = match trained.flags().contains(&false) {
            true => Arc::new(frozen.collect()),
            false => Arc::default(),
        };
        (self.trained, self.packed) = (Arc::new(trained), Arc::default());
        self
    }

    /// Which parameters training changes, whole or in part, in the order of the layout.
    pub fn trained(&self) -> &[bool] {
        self.trained.flags()
    }

    /// The same, tensor by tensor.
    pub fn trained_parts(&self) -> &Trained {
        &self.trained
    }

    /// Hugging Face names by which a part of a parameter is known: its own, and that of the head where the embedding is the
    /// head as well.
    pub fn names_of(&self, param: usize, part: usize) -> impl Iterator<Item = &str> {
        let (spec, model) = (&self.layout.specs[param], &self.layout.model);
        let tied = param == model.embed.table && param == model.head.weight;
        let own = spec.parts().get(part).map(|(name, _)| name.as_str());
        // Towers are called the same whatever their family.
        let of_tower = spec.is_of_tower().then_some(spec.name.as_str());
        own.into_iter().chain(tied.then_some("lm_head.weight")).chain(of_tower)
    }
}
