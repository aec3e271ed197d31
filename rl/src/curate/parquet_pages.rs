//! The pages of a column of a parquet file, unpacked within bounds.
//!
//! What the reader behind takes memory for is bounded here first: the bytes of a page when it is unpacked, the entries of
//! a dictionary, the values of one row. The bounds grow with the file and are far above what data sets need.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;

use super::parquet_thrift::{PageHeader, Thrift, Unreadable};

/// Bytes that a file of any size may become, of the pages that are in memory at a time.
const PAGES: u64 = 16 << 20;
/// How many times its own size.
const RATIO: u64 = 1000;
/// Bytes that the pages of no file may become.
const MOST: u64 = 2 << 30;
/// Largest header of a page, whose statistics hold values.
const HEADER: u64 = 16 << 20;
/// Values of a page.
const PAGE_VALUES: i64 = 1 << 26;
/// Values that one row may have in a column of lists.
const ROW_VALUES: u64 = 1 << 20;
/// Bytes that one row may have in a column of lists.
const ROW_BYTES: u64 = 256 << 20;
/// Bytes of a page of texts that continue each other.
const CONTINUED: usize = 16 << 20;
/// Memory of an entry of a dictionary beside its bytes, and of a value whose length is decoded by itself.
const ENTRY: u64 = 48;
const LENGTHS: u64 = 8;

fn refused(why: impl Into<String>) -> ParquetError {
    ParquetError::General(why.into())
}

/// Bytes that are unpacked at a time, over all columns.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn of(file_bytes: u64) -> Arc<Self> {
        let limit = PAGES.saturating_add(RATIO.saturating_mul(file_bytes)).min(MOST);
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    fn take(self: &Arc<Self>, bytes: u64) -> Result<Share> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { budget: Arc::clone(self), bytes };
        match before.saturating_add(bytes) > self.limit {
            true => Err(refused(format!(
                "its pages become more than {} MiB when they are unpacked, which is out of proportion to its size",
                self.limit >> 20
            ))),
            false => Ok(share),
        }
    }
}

/// Bytes of a budget, given back when dropped.
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A column of a row group.
pub(super) struct Pages {
    file: Arc<File>,
    at: u64,
    end: u64,
    /// The header of the page that begins at `at`, when it has been looked at, and its own bytes.
    next: Option<(PageHeader, u64)>,
    compression: Compression,
    kind: Type,
    width: i32,
    levels: [i16; 2],
    budget: Arc<Budget>,
    /// Of the page and of the dictionary.
    held: [Option<Share>; 2],
    /// Longest value that may stand in a row many times, in bytes.
    longest: u64,
    /// Values of the row that the last page ends with, and of the largest so far.
    open: u64,
    largest: u64,
}

impl Pages {
    pub(super) fn new(
        file: Arc<File>,
        length: u64,
        column: &ColumnChunkMetaData,
        budget: Arc<Budget>,
    ) -> Result<Self> {
        let (at, bytes) = column.byte_range();
        let end = at.checked_add(bytes).filter(|end| *end <= length);
        let end = end.ok_or_else(|| refused("a column ends behind the end of the file"))?;
        let about = column.column_descr();
        Ok(Self {
            file,
            at,
            end,
            next: None,
            compression: column.compression(),
            kind: about.physical_type(),
            width: about.type_length(),
            levels: [about.max_def_level(), about.max_rep_level()],
            budget,
            held: [None, None],
            longest: 0,
            open: 0,
            largest: 0,
        })
    }

    /// The header of the next page and its length; none at the end.
    fn header(&mut self) -> Result<Option<(PageHeader, u64)>> {
        if self.next.is_none() && self.at < self.end {
            let most = (self.end - self.at).min(HEADER);
            let mut window = most.min(1 << 12);
            let found = loop {
                let bytes = self.file.get_bytes(self.at, window as usize)?;
                let mut thrift = Thrift::new(&bytes);
                match PageHeader::read(&mut thrift) {
                    Ok(header) => break (header, thrift.position() as u64),
                    Err(Unreadable::Short) if window < most => window = most.min(8 * window),
                    Err(Unreadable::Short) => return Err(refused("the header of a page is cut off")),
                    Err(Unreadable::Wrong(why)) => {
                        return Err(refused(format!("the header of a page: {why}")));
                    }
                }
            };
            self.next = Some(found);
        }
        Ok(self.next.clone())
    }

    /// The next page as it is in the file, past its header.
    fn packed(&mut self) -> Result<Option<(PageHeader, Vec<u8>)>> {
        let Some((header, length)) = self.header()? else { return Ok(None) };
        let start = self.at + length;
        let packed = u64::try_from(header.packed).ok().filter(|packed| *packed <= self.end - start);
        let packed = packed.ok_or_else(|| refused("a page ends behind the end of its column"))?;
        let bytes = self.file.get_bytes(start, packed as usize)?.into();
        (self.next, self.at) = (None, start + packed);
        Ok(Some((header, bytes)))
    }

    fn page(&mut self) -> Result<Option<Page>> {
        loop {
            let Some((header, bytes)) = self.packed()? else { return Ok(None) };
            let number =
                |value: i64| u32::try_from(value).map_err(|_| refused("a page has less than no values"));
            let size = usize::try_from(header.unpacked).map_err(|_| refused("a page has no size"))?;
            let values = number(header.values)?;
            let dictionary = header.kind == 2;
            if !dictionary && header.values > PAGE_VALUES {
                return Err(refused("a page has more than 2^26 values"));
            }
            let encoding = encoding(header.encoding)?;
            let more = match encoding {
                _ if dictionary => ENTRY,
                Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => LENGTHS,
                _ => 0,
            };
            self.held[usize::from(dictionary)] = None;
            let share =
                self.budget.take((size.max(bytes.len()) as u64).saturating_add(more * u64::from(values)))?;
            self.held[usize::from(dictionary)] = Some(share);
            return Ok(Some(match header.kind {
                0 => {
                    let buf = unpack(self.compression, bytes, 0, size)?;
                    let [of_definitions, of_repetitions] = header.levels.map(encoding_of_levels);
                    let (def_level_encoding, rep_level_encoding) = (of_definitions?, of_repetitions?);
                    let data =
                        self.values_of_version_1(&buf, values, def_level_encoding, rep_level_encoding)?;
                    self.check_values(&buf[data..], values, encoding)?;
                    Page::DataPage {
                        buf: buf.into(),
                        num_values: values,
                        encoding,
                        def_level_encoding,
                        rep_level_encoding,
                        statistics: None,
                    }
                }
                2 => {
                    let buf = unpack(self.compression, bytes, 0, size)?;
                    self.check_dictionary(&buf, values)?;
                    Page::DictionaryPage { buf: buf.into(), num_values: values, encoding, is_sorted: false }
                }
                3 => {
                    let [def_levels_byte_len, rep_levels_byte_len] =
                        [number(header.level_bytes[0])?, number(header.level_bytes[1])?];
                    let levels = (def_levels_byte_len as usize).saturating_add(rep_levels_byte_len as usize);
                    let packed = if header.plain { bytes.len() } else { levels };
                    let buf =
                        if header.plain { bytes } else { unpack(self.compression, bytes, packed, size)? };
                    let cut = || refused("the levels of a page are cut off");
                    let data = buf.get(levels..).ok_or_else(cut)?;
                    if self.levels[1] > 0 {
                        self.count_rows(&buf[..rep_levels_byte_len as usize], values)?;
                    }
                    self.check_values(data, values, encoding)?;
                    Page::DataPageV2 {
                        num_nulls: number(header.nulls)?,
                        num_rows: number(header.rows)?,
                        buf: buf.into(),
                        num_values: values,
                        encoding,
                        def_levels_byte_len,
                        rep_levels_byte_len,
                        is_compressed: !header.plain,
                        statistics: None,
                    }
                }
                // An index, which nobody needs.
                1 => continue,
                kind => return Err(refused(format!("there are no pages of kind {kind}"))),
            }));
        }
    }

    /// Where the values of a page begin, behind the levels, which are counted.
    fn values_of_version_1(
        &mut self,
        buf: &[u8],
        values: u32,
        of: Encoding,
        repeated: Encoding,
    ) -> Result<usize> {
        let cut = || refused("the levels of a page are cut off");
        let mut at = 0;
        for (most, encoding, counted) in [(self.levels[1], repeated, true), (self.levels[0], of, false)] {
            if most == 0 {
                continue;
            }
            if encoding != Encoding::RLE {
                return Err(refused("the levels of a page are in an old encoding that is not read"));
            }
            let length = buf.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            let start = at + 4;
            let end = length.and_then(|n| start.checked_add(n as usize)).filter(|end| *end <= buf.len());
            at = end.ok_or_else(cut)?;
            if counted {
                self.count_rows(&buf[start..at], values)?;
            }
        }
        Ok(at)
    }

    /// Follows the repetition levels, which are 0 where a row begins, and refuses a row of too many values.
    fn count_rows(&mut self, levels: &[u8], values: u32) -> Result<()> {
        let width = 16 - (self.levels[1] as u16).leading_zeros() as usize;
        let (mut thrift, mut left) = (Thrift::new(levels), u64::from(values));
        let mut at = 0;
        while left > 0 && at < levels.len() {
            let short = |_| refused("the levels of a page are cut off");
            let head = thrift.varint().map_err(short)?;
            at = thrift.position();
            let bytes = if head & 1 == 0 {
                width.div_ceil(8) as u64
            } else {
                (head >> 1).saturating_mul(width as u64)
            };
            let end = usize::try_from(bytes).ok().and_then(|n| at.checked_add(n)).unwrap_or(usize::MAX);
            let run = &levels[at..end.min(levels.len())];
            if head & 1 == 0 {
                let count = (head >> 1).min(left);
                match run.iter().all(|byte| *byte == 0) {
                    true if count > 0 => self.open = 1,
                    _ => self.open += count,
                }
                left -= count;
            } else {
                let count = ((run.len() * 8 / width) as u64).min(left);
                for i in 0..count as usize {
                    let begins = (i * width..(i + 1) * width).all(|bit| run[bit / 8] >> (bit % 8) & 1 == 0);
                    self.open = if begins { 1 } else { self.open + 1 };
                    self.largest = self.largest.max(self.open);
                }
                left -= count;
            }
            self.largest = self.largest.max(self.open);
            at = end.min(levels.len());
            thrift = Thrift::from(levels, at);
        }
        match self.largest > ROW_VALUES {
            true => Err(refused("one row has more than 2^20 values in a list")),
            false => Ok(()),
        }
    }

    fn check_dictionary(&mut self, buf: &[u8], values: u32) -> Result<()> {
        let least = match self.kind {
            Type::BOOLEAN => 0,
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(self.width).unwrap_or(0),
        };
        if least.saturating_mul(u64::from(values)) > buf.len() as u64 {
            return Err(refused("a dictionary has more entries than room for them"));
        }
        if self.kind == Type::BYTE_ARRAY {
            let mut rest = buf;
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length);
                self.longest = self.longest.max(u64::from(length));
                rest = behind.get(length as usize..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// The encodings that say themselves how many values they have, and how large a row may become.
    fn check_values(&mut self, data: &[u8], values: u32, encoding: Encoding) -> Result<()> {
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                delta(data, values)?;
            }
            Encoding::DELTA_BYTE_ARRAY => {
                // Each text may continue the one before, so that they grow with the square of the page.
                if data.len() > CONTINUED {
                    return Err(refused("a page of texts that continue each other is larger than 16 MiB"));
                }
                self.longest = self.longest.max(data.len() as u64);
                let prefixes = delta(data, values)?;
                delta(&data[prefixes..], values)?;
            }
            _ => {}
        }
        match self.largest.saturating_mul(self.longest) > ROW_BYTES {
            true => Err(refused("one row has more than 256 MiB in a list")),
            false => Ok(()),
        }
    }
}

/// Unpacks what stands behind the first `plain` bytes of a page, which has `size` bytes then.
fn unpack(compression: Compression, bytes: Vec<u8>, plain: usize, size: usize) -> Result<Vec<u8>> {
    if matches!(compression, Compression::UNCOMPRESSED) {
        return Ok(bytes);
    }
    let wrong = || refused("a page does not unpack to the size that it states");
    if plain > bytes.len() || plain > size {
        return Err(wrong());
    }
    let mut unpacked = bytes[..plain].to_vec();
    let (packed, want) = (&bytes[plain..], size - plain);
    if want == 0 {
        return Ok(unpacked);
    }
    match compression {
        Compression::SNAPPY => {
            unpacked.resize(size, 0);
            let written = snap::raw::Decoder::new().decompress(packed, &mut unpacked[plain..]);
            unpacked.truncate(plain + written.map_err(|e| refused(e.to_string()))?);
        }
        Compression::GZIP(_) => {
            let mut more = flate2::read::MultiGzDecoder::new(packed).take(want as u64 + 1);
            more.read_to_end(&mut unpacked).map_err(|e| refused(format!("gzip: {e}")))?;
        }
        Compression::ZSTD(_) => {
            let more = zstd::bulk::decompress(packed, want).map_err(|e| refused(format!("zstd: {e}")))?;
            unpacked.extend(more);
        }
        other => return Err(refused(format!("the compression {other} is not supported"))),
    }
    if unpacked.len() == size { Ok(unpacked) } else { Err(wrong()) }
}

/// Where a block of numbers of the encoding DELTA_BINARY_PACKED ends that may have `most` of them.
fn delta(data: &[u8], most: u32) -> Result<usize> {
    let short = |_| refused("the lengths in a page are cut off");
    let mut thrift = Thrift::new(data);
    let mut number = || thrift.varint().map_err(short);
    let (block, parts, count, _first) = (number()?, number()?, number()?, number()?);
    if count > u64::from(most) {
        return Err(refused("a page has more lengths than values"));
    }
    if parts == 0 || block == 0 || block % parts != 0 || block > 1 << 20 || parts > 1 << 10 {
        return Err(refused("the lengths in a page are in blocks of no sense"));
    }
    let mut left = count.saturating_sub(1);
    let mut at = thrift.position();
    while left > 0 {
        let mut thrift = Thrift::from(data, at);
        thrift.varint().map_err(short)?;
        let widths = thrift.position();
        at = widths + parts as usize;
        let widths = data.get(widths..at).ok_or_else(|| short(Unreadable::Short))?;
        for width in widths {
            if left == 0 {
                break;
            }
            at += (block / parts) as usize * usize::from(*width) / 8;
            left = left.saturating_sub(block / parts);
        }
        if at > data.len() {
            return Err(short(Unreadable::Short));
        }
    }
    Ok(at)
}

fn encoding(number: i64) -> Result<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(refused(format!("the encoding {number} is not supported"))),
    })
}

#[expect(deprecated, reason = "old files have levels in it")]
fn encoding_of_levels(number: i64) -> Result<Encoding> {
    if number == 4 { Ok(Encoding::BIT_PACKED) } else { encoding(number) }
}

impl Iterator for Pages {
    type Item = Result<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let Some((header, _)) = self.header()? else { return Ok(None) };
        let number = |value: i64| usize::try_from(value).ok();
        Ok(Some(PageMetadata {
            num_rows: if header.kind == 3 { number(header.rows) } else { None },
            num_levels: if header.kind == 2 { None } else { number(header.values) },
            is_dict: header.kind == 2,
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.packed().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_page_becomes_what_it_states_and_no_more() {
        let zeros = vec![0; 20 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&zeros).unwrap();
        let gzip = gzip.finish().unwrap();
        let twice = [gzip.clone(), gzip.clone()].concat();
        let zstd = zstd::bulk::compress(&zeros, 3).unwrap();
        let snappy = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        let kinds = [
            (Compression::GZIP(Default::default()), gzip),
            (Compression::GZIP(Default::default()), twice),
            (Compression::ZSTD(Default::default()), zstd),
            (Compression::SNAPPY, snappy),
        ];
        for (i, (compression, packed)) in kinds.into_iter().enumerate() {
            let whole = if i == 1 { 2 * zeros.len() } else { zeros.len() };
            let levels = [&[7, 7, 7][..], &packed].concat();
            let page = unpack(compression, levels.clone(), 3, whole + 3).unwrap();
            assert!(page.len() == whole + 3 && page.starts_with(&[7, 7, 7, 0]));
            for size in [3 + 100, whole + 2, whole + 4] {
                assert!(unpack(compression, levels.clone(), 3, size).is_err(), "{compression} {size}");
            }
            assert!(unpack(compression, levels[..levels.len() / 2].to_vec(), 3, whole + 3).is_err());
            assert!(unpack(compression, levels.clone(), levels.len() + 1, whole).is_err());
        }
    }

    #[test]
    fn blocks_of_lengths_end_where_they_say() {
        // 128 numbers a block in 4 parts; 3 numbers, of 2 bits each in the first part.
        let block = [&[0x80, 0x01, 4, 3, 0, 0, 2, 0, 0, 0][..], &[0xff; 8], &[9, 9]].concat();
        assert_eq!(delta(&block, 3).unwrap(), block.len() - 2);
        assert!(delta(&block, 2).is_err() && delta(&block[..12], 3).is_err());
        let many = [&[0x80, 0x01, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0][..]].concat();
        assert!(delta(&many, u32::MAX).is_err());
    }
}
