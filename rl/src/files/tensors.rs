//! Named tensors in a safetensors file, such as the moments of the optimizer: of f32, or of bytes that are codes.

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

/// The elements of a tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// Numbers.
    F32(Vec<f32>),
    /// Codes.
    U8(Vec<u8>),
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
    Bytes(Arc<Vec<u8>>),
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

    /// A tensor of codes, shared.
    ///
    /// # Panics
    /// When shape and length disagree.
    pub fn bytes(name: impl Into<String>, shape: &[usize], codes: Arc<Vec<u8>>) -> Self {
        let (name, elements) = (name.into(), shape.iter().product::<usize>());
        assert!(elements == codes.len(), "{name}: shape {shape:?}, {} elements", codes.len());
        Self { name, shape: shape.to_vec(), values: Values::Bytes(codes) }
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
        match self.values {
            Values::Shared(_) | Values::Read(_) => Dtype::F32,
            Values::Bytes(_) => Dtype::U8,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::Shared(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Values::Bytes(codes) => Cow::Borrowed(codes),
            Values::Read(values) => Cow::Owned(bytemuck::cast_slice(&values()).to_vec()),
        }
    }
    fn data_len(&self) -> usize {
        let element = if matches!(self.values, Values::Bytes(_)) { 1 } else { size_of::<f32>() };
        self.shape.iter().product::<usize>() * element
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

/// Reads every tensor of `path`, all of f32.
///
/// # Errors
/// [`TensorsError::Io`], and [`TensorsError::Corrupt`] for a file that is cut off, not safetensors, or not f32.
pub fn read(path: &Path) -> Result<TensorMap, TensorsError> {
    let numbers = |(name, (shape, elements)): (String, (Vec<usize>, Elements))| match elements {
        Elements::F32(data) => Ok((name, HostTensor { shape, data })),
        Elements::U8(_) => {
            let reason = format!("{name}: bytes where numbers belong");
            Err(TensorsError::Corrupt { path: path.to_path_buf(), reason })
        }
    };
    read_elements(path)?.into_iter().map(numbers).collect()
}

/// Reads every tensor of `path` with its shape.
///
/// # Errors
/// [`TensorsError::Io`], and [`TensorsError::Corrupt`] for a file that is cut off, not safetensors, or of other types.
pub fn read_elements(path: &Path) -> Result<BTreeMap<String, (Vec<usize>, Elements)>, TensorsError> {
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
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let info: TensorInfo = serde_json::from_value(entry).map_err(|e| corrupt(format!("{name}: {e}")))?;
        let (begin, end) = info.data_offsets;
        let element = match info.dtype {
            Dtype::F32 => size_of::<f32>(),
            Dtype::U8 => 1,
            other => return Err(corrupt(format!("{name}: {other:?} is neither F32 nor U8"))),
        };
        let bytes = info.shape.iter().try_fold(element, |bytes, dim| bytes.checked_mul(*dim));
        let inside = end as u64 <= size - 8 - length && begin <= end && bytes == Some(end - begin);
        if !inside {
            return Err(corrupt(format!(
                "{name}: {:?} {:?} in bytes {begin} to {end}",
                info.dtype, info.shape
            )));
        }
        file.seek(SeekFrom::Start(8 + length + begin as u64)).map_err(IoError::at("read", path))?;
        let mut fill = |bytes: &mut [u8]| file.read_exact(bytes).map_err(|e| corrupt(format!("{name}: {e}")));
        let elements = if element == 1 {
            let mut codes = vec![0u8; end - begin];
            fill(&mut codes)?;
            Elements::U8(codes)
        } else {
            let mut data = vec![0.0_f32; (end - begin) / size_of::<f32>()];
            fill(bytemuck::cast_slice_mut(&mut data))?;
            Elements::F32(data)
        };
        tensors.insert(name, (info.shape, elements));
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
    fn codes_are_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let codes = NamedTensor::bytes("c", &[2, 3], Arc::new(vec![0, 1, 127, 128, 254, 255]));
        write(&path, &[codes, NamedTensor::shared("f", &[1], Arc::new(vec![0.25]))]).unwrap();
        let read_back = read_elements(&path).unwrap();
        assert_eq!(read_back["c"], (vec![2, 3], Elements::U8(vec![0, 1, 127, 128, 254, 255])));
        assert_eq!(read_back["f"], (vec![1], Elements::F32(vec![0.25])));
        assert!(read(&path).unwrap_err().to_string().contains("bytes where numbers belong"));
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
