//! Safetensors: one file, or shards listed in `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{HostTensor, WeightSource, element_count, inside, map_file, missing};
use crate::error::PolicyError;

/// Name of the single weight file of a Hugging Face folder.
const SINGLE: &str = "model.safetensors";
/// Name of the file that lists the shards.
const INDEX: &str = "model.safetensors.index.json";
/// Elements converted by one rayon task.
const CHUNK: usize = 1 << 16;

/// Memory-mapped safetensors, single or sharded; bf16, f16 and f32.
#[derive(Debug)]
pub struct SafetensorsSource {
    path: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Byte range within the file.
    range: std::ops::Range<usize>,
}

impl SafetensorsSource {
    /// Opens the weights of a Hugging Face folder: `model.safetensors`, else the shards of its index.
    ///
    /// # Errors
    /// No weights in the folder, a shard or a tensor of the index missing, or a damaged file.
    pub fn open_folder(folder: &Path) -> Result<Self, PolicyError> {
        let single = folder.join(SINGLE);
        if single.is_file() {
            return Self::open_files(folder, &[single]);
        }
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Err(PolicyError::MissingFile {
                path: folder.into(),
                missing: format!("{SINGLE} or {INDEX}"),
            });
        }
        let listed = read_index(&index)?;
        let mut names = BTreeSet::new();
        for file in listed.values() {
            names.insert(inside(folder, file).ok_or_else(|| {
                PolicyError::corrupt(
                    &index,
                    format!("it lists the shard {file:?}, which is not a plain file name"),
                )
            })?);
        }
        let source = Self::open_files(folder, &names.into_iter().collect::<Vec<_>>())?;
        match listed.keys().find(|name| !source.contains(name)) {
            Some(name) => Err(missing(&index, name)),
            None => Ok(source),
        }
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// An unreadable or damaged file.
    pub fn open_file(file: &Path) -> Result<Self, PolicyError> {
        Self::open_files(file, &[file.to_owned()])
    }

    fn open_files(path: &Path, files: &[PathBuf]) -> Result<Self, PolicyError> {
        let mut source = Self { path: path.into(), files: Vec::new(), tensors: BTreeMap::new() };
        for file in files {
            let map = map_file(file)?;
            // Checks the header against the file: ranges, overlaps, sizes against shapes, no bytes left over.
            let (header, metadata) =
                SafeTensors::read_metadata(&map).map_err(|e| PolicyError::corrupt(file, describe(&e)))?;
            let data = header + 8;
            if map.len() - data != metadata.data_len() {
                let problem = format!(
                    "the header describes {} bytes of data, {} follow",
                    metadata.data_len(),
                    map.len() - data
                );
                return Err(PolicyError::corrupt(file, problem));
            }
            for (name, info) in metadata.tensors() {
                let entry = Entry {
                    file: source.files.len(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    range: data + info.data_offsets.0..data + info.data_offsets.1,
                };
                if source.tensors.insert(name.clone(), entry).is_some() {
                    return Err(PolicyError::corrupt(file, format!("tensor `{name}` is in two shards")));
                }
            }
            source.files.push((file.clone(), map));
        }
        Ok(source)
    }
}

/// Files that the index of a sharded folder lists, by tensor name.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, PolicyError> {
    let text = std::fs::read(index).map_err(PolicyError::read(index))?;
    let value: Value = serde_json::from_slice(&text).map_err(PolicyError::json(index))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    map.and_then(|map| map.iter().map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
        .ok_or_else(|| PolicyError::ConfigKey {
            path: index.into(),
            key: "weight_map".into(),
            problem: "is not an object of file names".into(),
        })
}

/// What a safetensors error means to the owner of the file.
fn describe(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as E;
    match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => "it ends before its header does (truncated?)".into(),
        E::HeaderTooLarge => "its header claims to be larger than 100 MB (not a safetensors file?)".into(),
        E::MetadataIncompleteBuffer => "its data ends before or after the header says (truncated?)".into(),
        other => other.to_string(),
    }
}

impl WeightSource for SafetensorsSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|t| t.shape.clone())
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        let entry = self.tensors.get(name).ok_or_else(|| missing(&self.path, name))?;
        let (path, map) = &self.files[entry.file];
        let bytes = &map[entry.range.clone()];
        let elements = element_count(&entry.shape)
            .filter(|n| n.checked_mul(entry.dtype.bitsize()) == Some(bytes.len() * 8))
            .ok_or_else(|| {
                PolicyError::corrupt(path, format!("size of tensor `{name}` does not match its shape"))
            })?;
        let mut data = vec![0f32; elements];
        match entry.dtype {
            Dtype::F32 => convert(bytes, &mut data, f32::from_le_bytes),
            Dtype::F16 => convert(bytes, &mut data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(bytes, &mut data, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(PolicyError::TensorDtype {
                    path: path.clone(),
                    name: name.into(),
                    dtype: format!("{other:?}"),
                    supported: "supported: F32, F16, BF16",
                });
            }
        }
        Ok(HostTensor { shape: entry.shape.clone(), data })
    }
}

/// Little-endian elements of N bytes to f32, in parallel.
pub(super) fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32 + Sync) {
    let work = |(out, bytes): (&mut [f32], &[u8])| {
        for (value, element) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
            *value = f(*element);
        }
    };
    out.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * N)).for_each(work);
}
