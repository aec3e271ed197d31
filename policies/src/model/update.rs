//! What a device is told of an update of weights.

/// The numbers of one AdamW update (arXiv:1711.05101, algorithm 2), all but the gradient.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// β₁ and β₂.
    pub betas: [f32; 2],
    /// 1 − learning rate · weight decay.
    pub decay: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// One over the root of the second moment's bias correction.
    pub root_scale: f32,
    /// ε, added to the root.
    pub eps: f32,
    /// Factor of the gradient.
    pub clip: f32,
}
