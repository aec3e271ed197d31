//! Rows of parquet files, which may be anybody's: in bounded memory, and without panics.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::{ReaderIter, RowIter, TreeBuilder};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::parquet_pages::{Budget, Pages};
use super::parquet_thrift::{Unreadable, check_footer};
use crate::guard::caught;

/// Largest description of a file, at its end.
const FOOTER: u64 = 16 << 20;
/// Rows whose values are decoded at a time.
const BATCH: usize = 32;
/// Bytes that all rows of a file may have as JSON: so many, and so many times the size of the file.
const ROWS: u64 = 256 << 20;
const RATIO: u64 = 1000;
/// Digits of a decimal number.
const DIGITS: i32 = 1000;

/// The rows of a parquet file, one after the other.
pub(super) struct Rows {
    file: Arc<File>,
    length: u64,
    metadata: ParquetMetaData,
    budget: Arc<Budget>,
    group: usize,
    rows: Option<ReaderIter>,
    /// Bytes that further rows may have.
    left: u64,
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(mut file: File) -> std::result::Result<Self, String> {
        let io = |e: std::io::Error| e.to_string();
        let length = file.metadata().map_err(io)?.len();
        let mut tail = [0; 8];
        file.seek(SeekFrom::Start(length.saturating_sub(8))).map_err(io)?;
        file.read_exact(&mut tail).map_err(|_| "it is too short".to_owned())?;
        let (size, magic) = tail.split_at(4);
        match magic {
            b"PAR1" => {}
            b"PARE" => return Err("it is encrypted".to_owned()),
            _ => return Err("it does not end as parquet files do; is it whole?".to_owned()),
        }
        let size = u64::from(u32::from_le_bytes(size.try_into().unwrap_or_default()));
        if size > FOOTER || size + 8 > length {
            return Err(format!("it says that its description has {size} bytes"));
        }
        let mut footer = vec![0; size as usize];
        file.seek(SeekFrom::Start(length - 8 - size)).map_err(io)?;
        file.read_exact(&mut footer).map_err(io)?;
        check_footer(&footer).map_err(|problem| match problem {
            Unreadable::Short => "its description is cut off".to_owned(),
            Unreadable::Wrong(why) => format!("its description: {why}"),
        })?;
        let metadata = caught(|| ParquetMetaDataReader::decode_metadata(&footer));
        let metadata = metadata?.map_err(|e| e.to_string())?;
        let schema = metadata.file_metadata().schema_descr();
        if schema.num_columns() == 0 {
            return Err("it has no columns".to_owned());
        }
        if let Some(column) =
            schema.columns().iter().find(|c| c.type_scale().max(c.type_precision()) > DIGITS)
        {
            return Err(format!("the column {} has numbers of more than {DIGITS} digits", column.path()));
        }
        let left = ROWS.saturating_add(RATIO.saturating_mul(length));
        let (file, budget) = (Arc::new(file), Budget::of(length));
        Ok(Self { file, length, metadata, budget, group: 0, rows: None, left })
    }

    /// How many rows the file says it has.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn next(&mut self) -> std::result::Result<Option<Map<String, Value>>, String> {
        loop {
            if self.rows.is_none() {
                if self.group == self.metadata.num_row_groups() {
                    return Ok(None);
                }
                let group = Group {
                    file: &self.file,
                    length: self.length,
                    metadata: self.metadata.row_group(self.group),
                    budget: &self.budget,
                };
                let schema = self.metadata.file_metadata().schema_descr_ptr();
                let rows = caught(|| TreeBuilder::new().with_batch_size(BATCH).as_iter(schema, &group));
                self.rows = Some(rows?.map_err(|e| e.to_string())?);
                self.group += 1;
            }
            let Some(rows) = &mut self.rows else { continue };
            let row = caught(|| Some(rows.next()?.map(|row| row.to_json_value())));
            match row? {
                None => self.rows = None,
                Some(row) => {
                    let row = row.map_err(|e| e.to_string())?;
                    let left = self.left.checked_sub(size(&row));
                    self.left =
                        left.ok_or("its rows become far more than its size, it is not read to its end")?;
                    if let Value::Object(fields) = row {
                        return Ok(Some(fields));
                    }
                }
            }
        }
    }
}

/// About the bytes of a value as JSON.
fn size(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<u64>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(name, item)| name.len() as u64 + size(item) + 4).sum::<u64>()
        }
    }
}

/// A row group whose pages are bounded.
struct Group<'a> {
    file: &'a Arc<File>,
    length: u64,
    metadata: &'a RowGroupMetaData,
    budget: &'a Arc<Budget>,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata.column(i);
        let pages = Pages::new(Arc::clone(self.file), self.length, column, Arc::clone(self.budget))?;
        Ok(Box::new(pages))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(ParquetError::NYI("rows are read by their tree".into()))
    }
}
