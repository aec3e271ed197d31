//! Pictures for models that see: from files ([`image`]) in the sizes that a tower takes ([`processor`], [`resample`]), and how
//! it goes over them ([`picture`]).
pub mod image;
pub mod picture;
mod png;
mod png_write;
pub mod processor;
pub mod resample;
#[cfg(test)]
mod tests;

pub use self::image::{ImageError, Rgb, decode};
pub use self::picture::{ImageKey, Layout, Picture, Plan};
pub use self::png_write::encode_png;
pub use self::processor::{Processor, Sizes};
