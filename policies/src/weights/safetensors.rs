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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::save::{SaveDtype, write_safetensors};

    /// Two shards of a golden model in different formats, with an index.
    fn shard(dir: &Path) -> SafetensorsSource {
        let whole = SafetensorsSource::open_folder(&golden("models/tiny-llama")).unwrap();
        let mut map = serde_json::Map::new();
        let names = whole.names();
        for (i, (half, dtype)) in
            names.chunks(names.len() / 2 + 1).zip([SaveDtype::BF16, SaveDtype::F16]).enumerate()
        {
            let file = format!("model-{i}.safetensors");
            let tensors: Vec<_> = half.iter().map(|n| (n.clone(), whole.shape(n).unwrap())).collect();
            write_safetensors(&dir.join(&file), &tensors, dtype, |n| whole.load(n)).unwrap();
            map.extend(half.iter().map(|n| (n.clone(), file.clone().into())));
        }
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        std::fs::write(dir.join(INDEX), index.to_string()).unwrap();
        whole
    }

    #[test]
    fn shards_and_narrow_formats_hold_the_same_tensors() {
        let dir = tempfile::tempdir().unwrap();
        let whole = shard(dir.path());
        let sharded = SafetensorsSource::open_folder(dir.path()).unwrap();
        assert_eq!(sharded.names(), whole.names());
        let mut differ = 0;
        for name in whole.names() {
            let (a, b) = (whole.load(&name).unwrap(), sharded.load(&name).unwrap());
            assert_eq!(a.shape, b.shape);
            for (x, y) in a.data.iter().zip(&b.data) {
                assert!((x - y).abs() <= x.abs() / 256.0 + 1e-7, "{name}: {x} {y}");
                differ += usize::from(x != y);
            }
        }
        assert!(differ > 1000, "the shards are narrower than f32");
    }

    #[test]
    fn a_damaged_index_is_one_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        shard(dir.path());
        std::fs::remove_file(dir.path().join("model-1.safetensors")).unwrap();
        let message = SafetensorsSource::open_folder(dir.path()).unwrap_err().to_string();
        assert!(message.contains("cannot read") && message.contains("model-1.safetensors"), "{message}");
        for (index, expected) in [
            (r#"{"weight_map": {"x": "../../secret"}}"#, "not a plain file name"),
            (r#"{"weight_map": {"x": 3}}"#, "`weight_map`"),
            (r#"{"weight_map": {"x": "model-0.safetensors"}}"#, "no tensor `x`"),
            ("{", "not valid JSON"),
        ] {
            std::fs::write(dir.path().join(INDEX), index).unwrap();
            let message = SafetensorsSource::open_folder(dir.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        std::fs::remove_file(dir.path().join(INDEX)).unwrap();
        let message = SafetensorsSource::open_folder(dir.path()).unwrap_err().to_string();
        assert!(message.contains("has no model.safetensors or"), "{message}");
    }

    #[test]
    fn damaged_files_are_errors_and_never_panic() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.safetensors");
        let tensors = [("a".to_owned(), vec![2, 3]), ("b".to_owned(), vec![4])];
        let load = |name: &str| {
            let shape = tensors.iter().find(|(n, _)| n == name).unwrap().1.clone();
            Ok(HostTensor { data: vec![1.5; shape.iter().product()], shape })
        };
        write_safetensors(&file, &tensors, SaveDtype::F32, load).unwrap();
        let good = std::fs::read(&file).unwrap();
        assert_eq!(SafetensorsSource::open_file(&file).unwrap().load("b").unwrap().data, [1.5; 4]);
        let check = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            let source = SafetensorsSource::open_file(&file)?;
            source.names().iter().try_for_each(|n| source.load(n).map(drop))
        };
        for n in 0..good.len() {
            let message = check(&good[..n]).unwrap_err().to_string();
            assert!(message.contains("x.safetensors"), "{message}");
        }
        let longer: Vec<u8> = good.iter().copied().chain([0; 4]).collect();
        assert!(check(&longer).is_err());
        for i in 0..good.len() - 40 {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[i] ^= flip;
                let _ = check(&bytes);
            }
        }
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend(b"{}");
        assert!(check(&huge).unwrap_err().to_string().contains("100 MB"));
        let header = br#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#;
        let mut huge = (header.len() as u64).to_le_bytes().to_vec();
        huge.extend(header);
        huge.extend([0; 4]);
        assert!(check(&huge).is_err());
        let header = br#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        let mut integers = (header.len() as u64).to_le_bytes().to_vec();
        integers.extend(header);
        integers.extend([0; 8]);
        let message = check(&integers).unwrap_err().to_string();
        assert!(message.contains("`a` is stored as I64"), "{message}");
    }
}
