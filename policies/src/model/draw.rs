//! What a device is told of tokens to draw.

/// Tokens with their log-probabilities, `[step][draw]`.
pub type DrawnSteps = Vec<Vec<(u32, f32)>>;

/// One token to draw from the logits of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawAt {
    /// The row.
    pub row: usize,
    /// Counter of Philox4x32-10, whose first 64 bits make the uniform number.
    pub counter: [u32; 4],
    /// Key of the generator.
    pub key: [u32; 2],
}
