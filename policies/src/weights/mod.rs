//! Where a policy's weights come from: named tensors as f32, whatever the file format.
//!
//! Names and orientation are those of Hugging Face: a linear layer's weight is `[out, in]`, row-major.

mod check;
mod dequant;
mod gguf;
mod gguf_config;
mod gguf_families;
mod gguf_policy;
mod safetensors;

pub(crate) use check::{HEAD, check_shapes, untie_if_different};
pub use check::{check_weights, expected_tensors};
pub use gguf::{GgufArray, GgufFile, GgufTensor, GgufType, GgufValue};
pub use gguf_policy::GgufSource;
pub use safetensors::SafetensorsSource;
pub(crate) use safetensors::read_index;

use rayon::prelude::*;

use crate::error::PolicyError;
use crate::file::WeightFile;
pub use crate::tensors::{HostTensor, MemorySource, WeightSource};
use crate::tensors::{element_count, missing};

/// Elements that are read and converted together.
const CHUNK: usize = 1 << 16;

/// Reads blocks of `block` elements in `block_bytes` bytes each and lets `f` expand runs of them, in parallel.
fn expand(
    file: &WeightFile,
    offset: u64,
    block: usize,
    block_bytes: usize,
    out: &mut [f32],
    f: impl Fn(&[u8], &mut [f32]) + Sync,
) -> Result<(), PolicyError> {
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Vec::new, |buffer, (i, out)| {
        buffer.resize(out.len() / block * block_bytes, 0);
        file.read_at(offset + (i * CHUNK / block * block_bytes) as u64, buffer)?;
        f(buffer, out);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::check::tests::tiny;
    use super::*;
    use crate::decoder::Decoder;
    use crate::golden;

    #[test]
    fn broken_weights_are_named() {
        let (config, mut source) = tiny("tiny-llama");
        for value in [f32::NAN, f32::INFINITY] {
            let mut tensor = source.load("model.layers.1.mlp.down_proj.weight").unwrap();
            tensor.data[77] = value;
            source.insert("model.layers.1.mlp.down_proj.weight", tensor);
            let load = Decoder::load(config.clone(), &source, &burn::tensor::Device::flex());
            let message = load.unwrap_err().to_string();
            let expected = format!("`model.layers.1.mlp.down_proj.weight` holds {value} at element 77");
            assert!(message.contains(&expected), "{message}");
        }
    }

    #[test]
    fn an_update_that_breaks_a_parameter_is_found() {
        let (config, source) = tiny("tiny-llama");
        let mut decoder = Decoder::load(config, &source, &burn::tensor::Device::flex()).unwrap();
        assert_eq!(decoder.first_not_finite(), None);
        let mut values = decoder.param_values(4);
        values[3] = f32::NEG_INFINITY;
        decoder.set_param(4, values);
        let name = decoder.layout().specs[4].name.clone();
        assert_eq!(decoder.first_not_finite(), Some(name.as_str()));
    }

    #[test]
    fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
        for gguf in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (from, name) = match gguf {
                true => ("policy/tiny-llama.gguf", "model.gguf"),
                false => ("models/tiny-llama/model.safetensors", "model.safetensors"),
            };
            let path = dir.path().join(name);
            std::fs::copy(golden(from), &path).unwrap();
            let source: Box<dyn WeightSource> = match gguf {
                true => {
                    let file = GgufFile::open(&path).unwrap();
                    Box::new(GgufSource::new(std::sync::Arc::new(file)).unwrap().0)
                }
                false => Box::new(SafetensorsSource::open_file(&path).unwrap()),
            };
            source.names().iter().for_each(|name| drop(source.load(name).unwrap()));
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(5000).unwrap();
            let failed = source.names().iter().filter_map(|name| source.load(name).err()).last();
            let message = failed.unwrap().to_string();
            assert!(message.contains(name) && message.contains("truncated while it was read"), "{message}");
        }
    }
}
