//! GGUF versions 2 and 3: metadata, tensor table, tensors expanded to f32.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};

use super::safetensors::each;
use super::{dequant, element_count, expand, missing};
use crate::error::PolicyError;
use crate::file::WeightFile;

/// Longest metadata array that is read; the largest vocabularies have a few hundred thousand tokens.
const MAX_ARRAY: u64 = 1 << 22;
/// Most metadata keys or tensors that are read.
const MAX_ENTRIES: u64 = 1 << 17;
/// Most bytes of metadata and tensor table that are read; real files have up to some twenty million.
const MAX_HEADER: u64 = 1 << 28;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// Any of the integer types.
    Int(i128),
    /// f32 or f64. An f32 is widened exactly, so that `1e-5` reads as `9.99999974737875e-6`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string, UTF-8.
    String(String),
    /// Values of one type.
    Array(GgufArray),
}

/// A metadata array, in the bytes that it has in the file: vocabularies take no more memory than there.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufArray {
    kind: u32,
    len: usize,
    bytes: Vec<u8>,
}

impl GgufArray {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The strings, if its elements are strings.
    pub fn strings(&self) -> Option<impl Iterator<Item = &str>> {
        let mut rest = &self.bytes[..];
        let next = move || {
            let (len, after) = rest.split_first_chunk::<8>()?;
            let (text, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        (self.kind == STRING).then(|| std::iter::from_fn(next))
    }

    /// The numbers or booleans, if its elements are such.
    pub fn scalars(&self) -> Option<impl Iterator<Item = GgufValue>> {
        let size = scalar_size(self.kind)?;
        Some(self.bytes.chunks_exact(size).filter_map(|bytes| scalar(self.kind, bytes)))
    }
}

/// Type number of strings.
const STRING: u32 = 8;
/// Type number of arrays.
const ARRAY: u32 = 9;

/// Bytes of a number or boolean, by its type number.
fn scalar_size(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// A number or boolean from as many bytes as its type has.
fn scalar(kind: u32, bytes: &[u8]) -> Option<GgufValue> {
    fn of<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.try_into().ok()
    }
    Some(match kind {
        0 => GgufValue::Int(u8::from_le_bytes(of(bytes)?).into()),
        1 => GgufValue::Int(i8::from_le_bytes(of(bytes)?).into()),
        2 => GgufValue::Int(u16::from_le_bytes(of(bytes)?).into()),
        3 => GgufValue::Int(i16::from_le_bytes(of(bytes)?).into()),
        4 => GgufValue::Int(u32::from_le_bytes(of(bytes)?).into()),
        5 => GgufValue::Int(i32::from_le_bytes(of(bytes)?).into()),
        6 => GgufValue::Float(f32::from_le_bytes(of(bytes)?).into()),
        7 => GgufValue::Bool(bytes != [0]),
        10 => GgufValue::Int(u64::from_le_bytes(of(bytes)?).into()),
        11 => GgufValue::Int(i64::from_le_bytes(of(bytes)?).into()),
        12 => GgufValue::Float(f64::from_le_bytes(of(bytes)?)),
        _ => return None,
    })
}

impl GgufValue {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&GgufArray> {
        if let Self::Array(a) = self { Some(a) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// A non-negative integer below 2⁶⁴.
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::Int(n) = self { u64::try_from(*n).ok() } else { None }
    }

    /// A number of any kind.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            Self::Int(n) => Some(*n as f64),
            _ => None,
        }
    }
}

/// Number format of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// bfloat16.
    BF16,
    /// 4 bits, scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits, scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// 8 bits, scale.
    Q8_0,
    /// 4 bits, two-level scales and minima.
    Q4K,
    /// 5 bits, two-level scales and minima.
    Q5K,
    /// 6 bits, two-level scales.
    Q6K,
    /// A format that this crate does not read, by its number in ggml.
    Other(u32),
}

impl GgufType {
    fn from_id(id: u32) -> Self {
        match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            other => Self::Other(other),
        }
    }

    /// Elements and bytes of a block; `None` for a format that is not read.
    pub fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (dequant::BLOCK, 18),
            Self::Q4_1 => (dequant::BLOCK, 20),
            Self::Q5_0 => (dequant::BLOCK, 22),
            Self::Q5_1 => (dequant::BLOCK, 24),
            Self::Q8_0 => (dequant::BLOCK, 34),
            Self::Q4K => (dequant::SUPER_BLOCK, 144),
            Self::Q5K => (dequant::SUPER_BLOCK, 176),
            Self::Q6K => (dequant::SUPER_BLOCK, 210),
            Self::Other(_) => return None,
        })
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Q4K => f.write_str("Q4_K"),
            Self::Q5K => f.write_str("Q5_K"),
            Self::Q6K => f.write_str("Q6_K"),
            Self::Other(id) => write!(f, "ggml type {id}"),
            known => write!(f, "{known:?}"),
        }
    }
}

/// An entry of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Number format.
    pub dtype: GgufType,
    /// Sizes, outermost first (the file lists them innermost first).
    pub shape: Vec<usize>,
    /// Bytes within the file; empty for a format that is not read.
    range: Range<usize>,
}

/// A GGUF file with its metadata and tensor table parsed.
#[derive(Debug)]
pub struct GgufFile {
    file: WeightFile,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Opens a file and parses everything but the tensors' elements.
    ///
    /// # Errors
    /// An unreadable, truncated or malformed file, version 1, or big-endian.
    pub fn open(path: &Path) -> Result<Self, PolicyError> {
        let file = WeightFile::open(path)?;
        let (metadata, tensors) =
            parse(file.reader(), file.len()).map_err(|problem| PolicyError::corrupt(path, problem))?;
        Ok(Self { file, metadata, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// All metadata.
    pub fn metadata(&self) -> &BTreeMap<String, GgufValue> {
        &self.metadata
    }

    /// The tensor table, by the names in the file.
    pub fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// A tensor's elements as f32, row-major in [`GgufTensor::shape`].
    ///
    /// # Errors
    /// No such tensor, or a number format that is not read.
    pub fn load(&self, name: &str) -> Result<Vec<f32>, PolicyError> {
        let tensor = self.tensors.get(name).ok_or_else(|| missing(self.path(), name))?;
        let unsupported = || PolicyError::TensorDtype {
            path: self.path().into(),
            name: name.into(),
            dtype: tensor.dtype.to_string(),
            supported: "supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
        };
        let (block, block_bytes) = tensor.dtype.block().ok_or_else(unsupported)?;
        let mut out = vec![0f32; tensor.range.len() / block_bytes * block];
        let convert: fn(&[u8], &mut [f32]) = match tensor.dtype {
            GgufType::F32 => |b, out| each(b, out, f32::from_le_bytes),
            GgufType::F16 => |b, out| each(b, out, |b| f16::from_le_bytes(b).to_f32()),
            GgufType::BF16 => |b, out| each(b, out, |b| bf16::from_le_bytes(b).to_f32()),
            GgufType::Q4_0 => dequant::q4_0,
            GgufType::Q4_1 => dequant::q4_1,
            GgufType::Q5_0 => dequant::q5_0,
            GgufType::Q5_1 => dequant::q5_1,
            GgufType::Q8_0 => dequant::q8_0,
            GgufType::Q4K => dequant::q4_k,
            GgufType::Q5K => dequant::q5_k,
            GgufType::Q6K => dequant::q6_k,
            GgufType::Other(_) => return Err(unsupported()),
        };
        let offset = tensor.range.start as u64;
        expand(&self.file, offset, block, block_bytes, &mut out, |bytes, out| {
            if block == 1 {
                return convert(bytes, out);
            }
            out.chunks_exact_mut(block).zip(bytes.chunks_exact(block_bytes)).for_each(|(o, b)| convert(b, o));
        })?;
        Ok(out)
    }
}

type Parsed = (BTreeMap<String, GgufValue>, BTreeMap<String, GgufTensor>);

/// Parses what comes before the tensors' elements of a file of `len` bytes.
fn parse(file: impl Read, len: u64) -> Result<Parsed, String> {
    let mut reader = Reader { file, at: 0, len };
    if reader.array("the magic number")? != *b"GGUF" {
        return Err("it does not begin with GGUF".into());
    }
    match reader.u32("the version")? {
        2 | 3 => {}
        v if v.swap_bytes() <= 3 => return Err("it is big-endian, which is not supported".into()),
        v => return Err(format!("GGUF version {v} is not supported (supported: 2, 3)")),
    }
    let tensor_count = reader.count("the number of tensors", MAX_ENTRIES)?;
    let key_count = reader.count("the number of metadata keys", MAX_ENTRIES)?;

    let mut metadata = BTreeMap::new();
    for i in 0..key_count {
        let key = reader.string(&format!("metadata key {i}"))?;
        let kind = reader.u32(&key)?;
        let value = reader.value(kind, &key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("metadata key `{key}` occurs twice"));
        }
    }
    let alignment = match metadata.get("general.alignment").map(GgufValue::as_u64) {
        None => 32,
        Some(Some(n)) if n.is_power_of_two() && n <= 1 << 20 => n as usize,
        Some(_) => return Err("`general.alignment` is not a power of two".into()),
    };

    let mut table = Vec::new();
    for i in 0..tensor_count {
        let name = reader.string(&format!("tensor {i}"))?;
        let dimensions = reader.u32(&name)?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("tensor `{name}` has {dimensions} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = reader.u64(&name)?;
            shape.push(
                usize::try_from(size).map_err(|_| format!("tensor `{name}` has a dimension of {size}"))?,
            );
        }
        shape.reverse();
        table.push((name.clone(), GgufType::from_id(reader.u32(&name)?), shape, reader.u64(&name)?));
    }

    let data = (reader.at as usize).next_multiple_of(alignment);
    let len = usize::try_from(len).map_err(|_| format!("it has {len} bytes, too many for this machine"))?;
    let mut tensors = BTreeMap::new();
    for (name, dtype, shape, offset) in table {
        let range =
            byte_range(dtype, &shape, data, offset, len).map_err(|e| format!("tensor `{name}` {e}"))?;
        if tensors.insert(name.clone(), GgufTensor { dtype, shape, range }).is_some() {
            return Err(format!("tensor `{name}` occurs twice"));
        }
    }
    // Bytes that are several tensors at once would take more memory than the file.
    let mut in_order: Vec<_> = tensors.iter().filter(|(_, t)| !t.range.is_empty()).collect();
    in_order.sort_by_key(|(_, t)| t.range.start);
    if let Some(pair) = in_order.windows(2).find(|pair| pair[0].1.range.end > pair[1].1.range.start) {
        return Err(format!("tensors `{}` and `{}` overlap", pair[0].0, pair[1].0));
    }
    Ok((metadata, tensors))
}

fn byte_range(
    dtype: GgufType,
    shape: &[usize],
    data: usize,
    offset: u64,
    len: usize,
) -> Result<Range<usize>, String> {
    let Some((block, block_bytes)) = dtype.block() else { return Ok(0..0) };
    let overflow = || format!("of shape {shape:?} is impossibly large");
    let row = shape.last().copied().unwrap_or(0);
    if row % block != 0 {
        return Err(format!("has rows of {row} elements, {dtype} needs a multiple of {block}"));
    }
    let elements = element_count(shape).ok_or_else(overflow)?;
    let bytes = (elements / block).checked_mul(block_bytes).ok_or_else(overflow)?;
    let start = usize::try_from(offset).ok().and_then(|o| o.checked_add(data)).ok_or_else(overflow)?;
    let end = start.checked_add(bytes).ok_or_else(overflow)?;
    if end > len {
        return Err(format!("ends at byte {end}, the file at {len} (truncated?)"));
    }
    Ok(start..end)
}

/// A cursor that never reads past the end nor allocates more than the file can fill.
struct Reader<R> {
    file: R,
    at: u64,
    len: u64,
}

impl<R: Read> Reader<R> {
    fn take(&mut self, n: u64, what: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let truncated = || format!("it ends within {what} (truncated?)");
        if n > self.len - self.at {
            return Err(truncated());
        }
        self.at += n;
        if self.at > MAX_HEADER {
            return Err(format!(
                "{what} lies beyond the first {MAX_HEADER} bytes, the most that metadata may take"
            ));
        }
        let begin = out.len();
        out.resize(begin + n as usize, 0);
        self.file.read_exact(&mut out[begin..]).map_err(|_| truncated())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = Vec::with_capacity(N);
        self.take(N as u64, what, &mut bytes)?;
        let mut out = [0; N];
        out.copy_from_slice(&bytes);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &str, max: u64) -> Result<u64, String> {
        let n = self.u64(what)?;
        if n <= max { Ok(n) } else { Err(format!("{what} is {n}, at most {max} are supported")) }
    }

    fn string(&mut self, what: &str) -> Result<String, String> {
        let n = self.u64(what)?;
        let mut bytes = Vec::new();
        self.take(n, what, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<GgufValue, String> {
        if let Some(size) = scalar_size(kind) {
            let mut bytes = Vec::new();
            self.take(size as u64, key, &mut bytes)?;
            return scalar(kind, &bytes).ok_or_else(|| format!("metadata key `{key}` is damaged"));
        }
        Ok(match kind {
            STRING => GgufValue::String(self.string(key)?),
            ARRAY => GgufValue::Array(self.values(key)?),
            _ => return Err(format!("metadata key `{key}` has the unknown type {kind}")),
        })
    }

    fn values(&mut self, key: &str) -> Result<GgufArray, String> {
        let kind = self.u32(key)?;
        let len = self.count(key, MAX_ARRAY)?;
        let mut bytes = Vec::new();
        match scalar_size(kind) {
            Some(size) => self.take(len * size as u64, key, &mut bytes)?,
            None if kind == STRING => {
                for _ in 0..len {
                    let n = self.u64(key)?;
                    bytes.extend(n.to_le_bytes());
                    let begin = bytes.len();
                    self.take(n, key, &mut bytes)?;
                    std::str::from_utf8(&bytes[begin..]).map_err(|_| format!("{key} is not UTF-8"))?;
                }
            }
            None => return Err(format!("metadata key `{key}` is an array of the unknown type {kind}")),
        }
        bytes.shrink_to_fit();
        Ok(GgufArray { kind, len: len as usize, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::weights::{SafetensorsSource, WeightSource};

    #[test]
    fn every_format_expands_as_the_reference_does() {
        let file = GgufFile::open(&golden("policy/blocks.gguf")).unwrap();
        let expected = SafetensorsSource::open_file(&golden("policy/blocks.safetensors")).unwrap();
        assert_eq!(file.tensors().len(), 11);
        for name in expected.names() {
            let reference = expected.load(&name).unwrap();
            assert_eq!(file.tensors()[&name].shape, reference.shape);
            assert_eq!(file.tensors()[&name].dtype.to_string(), name);
            let found = file.load(&name).unwrap();
            assert_eq!(found.len(), 1024);
            for (i, (a, b)) in found.iter().zip(&reference.data).enumerate() {
                assert!(a == b, "{name}[{i}]: {a} instead of {b}");
            }
        }
    }

    #[test]
    fn metadata_of_all_kinds() {
        let file = GgufFile::open(&golden("policy/tiny-llama.gguf")).unwrap();
        let get = |key: &str| &file.metadata()[key];
        assert_eq!(get("general.architecture").as_str(), Some("llama"));
        assert_eq!(get("llama.embedding_length").as_u64(), Some(64));
        assert_eq!(get("llama.rope.freq_base").as_f64(), Some(1e4));
        assert_eq!(get("tokenizer.ggml.add_bos_token").as_bool(), Some(true));
        assert_eq!(get("tokenizer.ggml.tokens").as_array().map(GgufArray::len), Some(384));
    }

    #[test]
    fn damaged_files_are_errors_and_never_panic() {
        let good = std::fs::read(golden("policy/tiny-llama.gguf")).unwrap();
        let parse = |bytes: &[u8]| super::parse(bytes, bytes.len() as u64);
        parse(&good).unwrap();
        // Up to where the tensors begin, every length; beyond, now and then.
        for n in (0..good.len()).filter(|n| *n < 600 || n % 97 == 0) {
            let message = parse(&good[..n]).unwrap_err();
            assert!(message.contains("truncated") || message.contains("GGUF"), "{n}: {message}");
        }
        for i in 0..600 {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[i] ^= flip;
                let _ = parse(&bytes);
            }
        }
        let header = |version: u32, tensors: u64, keys: u64| {
            let mut bytes = b"GGUF".to_vec();
            bytes.extend(version.to_le_bytes());
            bytes.extend(tensors.to_le_bytes());
            bytes.extend(keys.to_le_bytes());
            bytes
        };
        for (bytes, expected) in [
            (header(1, 0, 0), "version 1 is not supported"),
            (header(3u32.swap_bytes(), 0, 0), "big-endian"),
            (header(3, u64::MAX, 0), "the number of tensors"),
            (header(3, 0, u64::MAX), "the number of metadata keys"),
            (header(3, 0, 1 << 16), "ends within metadata key 0"),
            (header(3, 0, 1 << 20), "the number of metadata keys"),
            ([header(3, 0, 1), u64::MAX.to_le_bytes().to_vec()].concat(), "metadata key 0"),
        ] {
            let message = parse(&bytes).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn impossible_tensors_are_refused() {
        let range = |dtype, shape: &[usize], offset| byte_range(dtype, shape, 32, offset, 1000);
        assert_eq!(range(GgufType::F32, &[2, 3], 8), Ok(40..64));
        assert_eq!(range(GgufType::Q6K, &[2, 256], 0), Ok(32..452));
        assert!(range(GgufType::Q8_0, &[2, 33], 0).unwrap_err().contains("multiple of 32"));
        assert!(range(GgufType::F32, &[usize::MAX, 2], 0).unwrap_err().contains("impossibly large"));
        assert!(range(GgufType::F32, &[usize::MAX / 2], 0).unwrap_err().contains("impossibly large"));
        assert!(range(GgufType::F32, &[1], u64::MAX).unwrap_err().contains("impossibly large"));
        assert!(range(GgufType::F32, &[1000], 0).unwrap_err().contains("truncated"));
    }
}
