//! Safetensors: one file, or shards listed in `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::{HostTensor, WeightSource, element_count, expand, missing};
use crate::error::PolicyError;
use crate::file::is_inside;
use crate::file::{self, WeightFile};

/// Name of the single weight file of a Hugging Face folder.
const SINGLE: &str = "model.safetensors";
/// Name of the file that lists the shards.
const INDEX: &str = "model.safetensors.index.json";
/// Longest header of a weight file and longest index, in bytes: a hundred bytes a tensor.
const MAX_HEADER: u64 = 1 << 24;

/// Safetensors files, single or sharded; bf16, f16 and f32.
#[derive(Debug)]
pub struct SafetensorsSource {
    path: PathBuf,
    files: Vec<WeightFile>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where its first byte is in the file.
    offset: u64,
    /// Elements.
    elements: usize,
}

/// Values of a file to f32.
type Convert = fn(&[u8], &mut [f32]);

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
            if !is_inside(file) {
                let problem = format!("it lists the shard {file:?}, which is not a plain file name");
                return Err(PolicyError::corrupt(&index, problem));
            }
            names.insert(folder.join(file));
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
        for path in files {
            let file = WeightFile::open(path)?;
            let (header, data) = read_header(&file)?;
            check_ranges(&header.0, file.len() - data).map_err(|p| PolicyError::corrupt(path, p))?;
            for (name, Stored { dtype, shape, data_offsets: (from, _) }) in header.0 {
                // No overflow: that has been checked.
                let elements = shape.iter().product();
                let entry = Entry { file: source.files.len(), dtype, shape, offset: data + from, elements };
                if source.tensors.insert(name.clone(), entry).is_some() {
                    return Err(PolicyError::corrupt(path, format!("tensor `{name}` is in two shards")));
                }
            }
            source.files.push(file);
        }
        Ok(source)
    }
}

/// A tensor as the header has it.
#[derive(Deserialize)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte and the one behind the last, counted from the end of the header.
    data_offsets: (u64, u64),
}

/// The header of a file without its free text.
struct Header(BTreeMap<String, Stored>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else if tensors.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(serde::de::Error::custom(format!("tensor `{name}` occurs twice")));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// The header of a file and where its data begin.
fn read_header(file: &WeightFile) -> Result<(Header, u64), PolicyError> {
    let corrupt = |problem: &str| PolicyError::corrupt(file.path(), problem);
    let truncated = || corrupt("it ends before its header does (truncated?)");
    let mut len = [0; 8];
    if file.len() < 8 {
        return Err(truncated());
    }
    file.read_at(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return Err(corrupt("its header claims to be larger than 16 MiB (not a safetensors file?)"));
    }
    if len + 8 > file.len() {
        return Err(truncated());
    }
    let mut header = vec![0; len as usize];
    file.read_at(8, &mut header)?;
    let header = serde_json::from_slice(&header)
        .map_err(|e| PolicyError::corrupt(file.path(), format!("its header is damaged: {e}")))?;
    Ok((header, len + 8))
}

/// Whether the tensors, one behind the other, are the data of the file.
fn check_ranges(tensors: &BTreeMap<String, Stored>, data: u64) -> Result<(), String> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, t)| t.data_offsets);
    let mut end = 0;
    for (name, t) in in_order {
        if t.data_offsets.0 != end {
            return Err(format!("tensor `{name}` does not begin where the one before it ends"));
        }
        let bits = element_count(&t.shape).and_then(|n| n.checked_mul(t.dtype.bitsize()));
        let bytes = bits.filter(|bits| bits % 8 == 0).map(|bits| bits as u64 / 8);
        match bytes.and_then(|n| end.checked_add(n)) {
            Some(next) if next == t.data_offsets.1 => end = next,
            _ => return Err(format!("size of tensor `{name}` does not match its shape")),
        }
    }
    if end != data {
        return Err(format!("its header describes {end} bytes of data, {data} follow (truncated?)"));
    }
    Ok(())
}

/// The index of a sharded folder.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Files that the index of a sharded folder lists, by tensor name.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, PolicyError> {
    let text = file::read(index, MAX_HEADER)?;
    match serde_json::from_slice::<Index>(&text) {
        Ok(index) => Ok(index.weight_map),
        Err(e) if e.is_data() => Err(PolicyError::ConfigKey {
            path: index.into(),
            key: "weight_map".into(),
            problem: format!("is not an object of file names: {e}"),
        }),
        Err(e) => Err(PolicyError::json(index)(e)),
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
        let file = &self.files[entry.file];
        let (bytes, convert): (usize, Convert) = match entry.dtype {
            Dtype::F32 => (4, |b, out| each(b, out, f32::from_le_bytes)),
            Dtype::F16 => (2, |b, out| each(b, out, |b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => (2, |b, out| each(b, out, |b| bf16::from_le_bytes(b).to_f32())),
            other => {
                return Err(PolicyError::TensorDtype {
                    path: file.path().into(),
                    name: name.into(),
                    dtype: format!("{other:?}"),
                    supported: "supported: F32, F16, BF16",
                });
            }
        };
        let mut data = vec![0f32; entry.elements];
        expand(file, entry.offset, 1, bytes, &mut data, convert)?;
        Ok(HostTensor { shape: entry.shape.clone(), data })
    }
}

/// Little-endian elements of N bytes to f32.
pub(super) fn each<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (value, element) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = f(*element);
    }
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
        // Sizes that overflow are equal to nothing, whatever the offsets are.
        let header = concat!(
            r#"{"a":{"dtype":"F32","shape":[268435456,268435456],"data_offsets":[0,288230376151711744]},"#,
            r#""b":{"dtype":"F32","shape":[268435456,268435456],"data_offsets":[288230376151711744,576460752303423488]},"#,
            r#""c":{"dtype":"F32","shape":[9223372036854775808,2],"data_offsets":[576460752303423488,50]}}"#,
        );
        let mut backwards = (header.len() as u64).to_le_bytes().to_vec();
        backwards.extend(header.bytes().chain([0; 50]));
        let message = check(&backwards).unwrap_err().to_string();
        assert!(message.contains("does not match its shape"), "{message}");
        let mut huge = u64::MAX.to_le_bytes().to_vec();
        huge.extend(b"{}");
        assert!(check(&huge).unwrap_err().to_string().contains("16 MiB"));
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
