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
use rlvr_policies::guard::caught;
use serde_json::{Map, Value};

use super::parquet_pages::{Budget, Pages};
use super::parquet_thrift::{Unreadable, check_footer};

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

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
    use parquet::schema::parser::parse_message_type;

    type Fill<'a> = &'a dyn Fn(usize, &mut SerializedColumnWriter<'_>);

    /// A file of one row group, whose columns are filled in order.
    fn parquet(schema: &str, settings: WriterPropertiesBuilder, fill: Fill) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(settings.build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut i = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            fill(i, &mut column);
            column.close().unwrap();
            i += 1;
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    fn zstd() -> WriterPropertiesBuilder {
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
    }

    /// All rows.
    fn rows(file: File) -> std::result::Result<Vec<Value>, String> {
        let mut rows = Rows::open(file)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Value::Object(row));
        }
        Ok(found)
    }

    fn refused(file: File, part: &str) {
        let length = file.metadata().unwrap().len();
        let error = rows(file).map(|rows| rows.len()).unwrap_err();
        assert!(error.contains(part), "{error} ({length} bytes)");
        assert!(length < 100_000, "{length} bytes");
    }

    #[test]
    fn rows_are_those_of_the_usual_reader() {
        let n = 5000;
        let texts: Vec<ByteArray> = (0..n).map(|i| format!("question {}", i % 700).as_str().into()).collect();
        let schema = "message m { required binary q (UTF8); optional int64 a; \
            optional group l (LIST) { repeated group list { optional binary element (UTF8); } } }";
        let fill = |i: usize, column: &mut SerializedColumnWriter<'_>| match i {
            0 => drop(column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap()),
            1 => {
                let levels: Vec<i16> = (0..n).map(|i| i16::from(i % 3 > 0)).collect();
                let values: Vec<i64> =
                    levels.iter().filter(|l| **l > 0).enumerate().map(|(i, _)| i as i64).collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
            }
            _ => {
                // Lists of 0 to 4 texts, some of them null.
                let (mut levels, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
                for i in 0..n {
                    if i % 5 == 0 {
                        levels.push((i % 2) as i16);
                        repeated.push(0);
                    }
                    for k in 0..i % 5 {
                        levels.push(if k == 2 { 2 } else { 3 });
                        repeated.push(i16::from(k > 0));
                        values.extend((k != 2).then(|| texts[(i + k) % n].clone()));
                    }
                }
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), Some(&repeated)).unwrap();
            }
        };
        let compressions = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        let encodings = [
            None,
            Some(Encoding::PLAIN),
            Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            Some(Encoding::DELTA_BYTE_ARRAY),
        ];
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for (compression, encoding) in compressions.iter().zip(encodings) {
                let mut settings =
                    WriterProperties::builder().set_compression(*compression).set_writer_version(version);
                settings = settings.set_data_page_row_count_limit(600).set_write_batch_size(100);
                if let Some(encoding) = encoding {
                    settings = settings.set_dictionary_enabled(false);
                    settings = settings.set_column_encoding("q".into(), encoding);
                    settings = settings.set_column_encoding("l.list.element".into(), encoding);
                }
                let file = parquet(schema, settings, &fill);
                let reader = SerializedFileReader::new(file.try_clone().unwrap()).unwrap();
                let usual: Vec<Value> =
                    reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
                assert_eq!(usual.len(), n);
                assert!(rows(file).unwrap() == usual, "{compression} {encoding:?} {version:?}");
            }
        }
    }

    #[test]
    fn small_files_that_become_large_are_refused() {
        // One row with three million values.
        let n = 3_000_000;
        let file = parquet("message m { repeated int32 a; }", zstd(), &|_, column| {
            let mut repeated = vec![1; n];
            repeated[0] = 0;
            column.typed::<Int32Type>().write_batch(&vec![7; n], Some(&vec![1; n]), Some(&repeated)).unwrap();
        });
        refused(file, "one row has more than 2^20 values");
        // One text, over and over: in rows, and in the list of one row.
        let text: ByteArray = "x".repeat(1 << 20).as_str().into();
        let once = zstd().set_dictionary_page_size_limit(4 << 20);
        let file = parquet("message m { required binary a (UTF8); }", once.clone(), &|_, column| {
            column.typed::<ByteArrayType>().write_batch(&vec![text.clone(); 100_000], None, None).unwrap();
        });
        refused(file, "its rows become far more than its size");
        let file = parquet("message m { repeated binary a (UTF8); }", once, &|_, column| {
            let mut repeated = vec![1; 1000];
            repeated[0] = 0;
            let texts = vec![text.clone(); 1000];
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&[1; 1000]), Some(&repeated)).unwrap();
        });
        refused(file, "one row has more than 256 MiB");
        // One page.
        let file = parquet(
            "message m { required binary a (UTF8); }",
            zstd().set_dictionary_enabled(false),
            &|_, column| {
                let text = ByteArray::from("x".repeat(100 << 20).as_str());
                column.typed::<ByteArrayType>().write_batch(&[text], None, None).unwrap();
            },
        );
        refused(file, "out of proportion to its size");
        let (mut open, mut close) = (String::new(), String::new());
        for i in 0..100 {
            open.push_str(&format!("required group g{i} {{ "));
            close.push('}');
        }
        let file =
            parquet(&format!("message m {{ {open} required int32 a; {close} }}"), zstd(), &|_, column| {
                column.typed::<Int32Type>().write_batch(&[1], None, None).unwrap();
            });
        refused(file, "nested more than 64 deep");
    }

    #[test]
    fn many_values_are_read_where_they_are_no_attack() {
        let file = parquet("message m { repeated int32 a; }", zstd(), &|_, column| {
            let repeated: Vec<i16> = (0..2_000_000).map(|i| i16::from(i % 1000 > 0)).collect();
            let values: Vec<i32> = (0..2_000_000).map(|i| i % 100).collect();
            column
                .typed::<Int32Type>()
                .write_batch(&values, Some(&vec![1; 2_000_000]), Some(&repeated))
                .unwrap();
        });
        let found = rows(file).unwrap();
        assert_eq!((found.len(), found[7]["a"].as_array().unwrap().len()), (2000, 1000));
    }
}
