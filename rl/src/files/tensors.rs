//! Named f32 tensors in a safetensors file, such as the moments of the optimizer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensorError, TensorInfo, View};

use crate::files::{IoError, open_own};

/// Longest header that is believed, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Why a file of tensors cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TensorsError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file does not hold what it should.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The elements in row-major order, as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// Tensors by name, in alphabetic order.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// A tensor that is to be written, with the way to its values.
pub struct NamedTensor {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Shared(Arc<Vec<f32>>),
    Read(Box<dyn Fn() -> Vec<f32> + Send>),
}

impl NamedTensor {
    /// A tensor whose values are there already, and shared.
    ///
    /// # Panics
    /// When shape and length disagree.
    pub fn shared(name: impl Into<String>, shape: &[usize], values: Arc<Vec<f32>>) -> Self {
        let (name, elements) = (name.into(), shape.iter().product::<usize>());
        assert!(elements == values.len(), "{name}: shape {shape:?}, {} elements", values.len());
        Self { name, shape: shape.to_vec(), values: Values::Shared(values) }
    }

    /// A tensor whose values are read when it is written, as many as the product of `shape`.
    pub fn read(
        name: impl Into<String>,
        shape: &[usize],
        values: impl Fn() -> Vec<f32> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), values: Values::Read(Box::new(values)) }
    }
}

impl View for &NamedTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Shared(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Values::Read(values) => Cow::Owned(bytemuck::cast_slice(&values()).to_vec()),
        }
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes `tensors` to `path`, one at a time; the same tensors give the same bytes.
///
/// # Errors
/// [`TensorsError::Io`] and [`TensorsError::Corrupt`].
pub fn write(path: &Path, tensors: &[NamedTensor]) -> Result<(), TensorsError> {
    let views = tensors.iter().map(|tensor| (&tensor.name, tensor));
    safetensors::serialize_to_file(views, None, path).map_err(|error| match error {
        SafeTensorError::IoError(source) => IoError::at("write", path)(source).into(),
        other => TensorsError::Corrupt { path: path.to_path_buf(), reason: other.to_string() },
    })
}

/// Reads every tensor of `path`; no more than one tensor is held twice.
///
/// # Errors
/// [`TensorsError::Io`], and [`TensorsError::Corrupt`] for a file that is cut off, not safetensors, or not f32.
pub fn read(path: &Path) -> Result<TensorMap, TensorsError> {
    let corrupt = |reason: String| TensorsError::Corrupt { path: path.to_path_buf(), reason };
    let mut file = open_own(path, OpenOptions::new().read(true)).map_err(IoError::at("open", path))?;
    let size = file.metadata().map_err(IoError::at("read", path))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|e| corrupt(format!("no header: {e}")))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > size {
        return Err(corrupt(format!("a header of {length} bytes in a file of {size}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|e| corrupt(format!("no header: {e}")))?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| corrupt(format!("the header is not JSON: {e}")))?;
    entries.remove("__metadata__");
    let mut tensors = TensorMap::new();
    for (name, entry) in entries {
        let info: TensorInfo = serde_json::from_value(entry).map_err(|e| corrupt(format!("{name}: {e}")))?;
        let (begin, end) = info.data_offsets;
        let bytes = info.shape.iter().try_fold(4_usize, |bytes, dim| bytes.checked_mul(*dim));
        let inside = end as u64 <= size - 8 - length && begin <= end && bytes == Some(end - begin);
        if info.dtype != Dtype::F32 || !inside {
            return Err(corrupt(format!(
                "{name}: {:?} {:?} in bytes {begin} to {end}",
                info.dtype, info.shape
            )));
        }
        let mut data = vec![0.0_f32; (end - begin) / 4];
        file.seek(SeekFrom::Start(8 + length + begin as u64)).map_err(IoError::at("read", path))?;
        file.read_exact(bytemuck::cast_slice_mut(&mut data)).map_err(|e| corrupt(format!("{name}: {e}")))?;
        tensors.insert(name, HostTensor { shape: info.shape, data });
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tensors in another order than they are written in, read and shared in turn.
    fn named(map: TensorMap) -> Vec<NamedTensor> {
        let named = |(i, (name, t)): (usize, (String, HostTensor))| match i % 2 {
            0 => NamedTensor::shared(name, &t.shape, Arc::new(t.data)),
            _ => NamedTensor::read(name, &t.shape.clone(), move || t.data.clone()),
        };
        map.into_iter().enumerate().map(named).rev().collect()
    }

    fn some() -> TensorMap {
        let tensor = |shape: &[usize], from: f32| HostTensor {
            shape: shape.to_vec(),
            data: (0..shape.iter().product::<usize>()).map(|i| from + i as f32).collect(),
        };
        [
            ("b".to_owned(), tensor(&[2, 3], 0.5)),
            ("a.m".to_owned(), tensor(&[4], -1.0)),
            ("s".to_owned(), tensor(&[], 7.0)),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn round_trip_and_stable_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write(&a, &named(some())).unwrap();
        write(&b, &named(some())).unwrap();
        assert_eq!(read(&a).unwrap(), some());
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        assert!(safetensors::SafeTensors::deserialize(&std::fs::read(&a).unwrap()).is_ok());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, &named(some())).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for keep in 0..whole.len() {
            std::fs::write(&path, &whole[..keep]).unwrap();
            assert!(read(&path).is_err(), "{keep}");
        }
        for i in 0..whole.len() {
            let mut changed = whole.clone();
            changed[i] ^= 0x55;
            std::fs::write(&path, &changed).unwrap();
            let _ = read(&path);
        }
        let missing = write(Path::new("no/such/directory/file"), &named(some())).unwrap_err();
        assert!(missing.to_string().contains("no/such/directory/file"), "{missing}");
    }
}
