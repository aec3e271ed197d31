//! The structures of parquet files, looked at before anybody trusts their numbers.
//!
//! Thrift's compact protocol: a list says how long it is, a schema how deep, a page how large it becomes. Readers take
//! memory by these numbers, so they are compared here with the bytes that are there.

/// Structures inside of each other.
const DEPTH: usize = 32;
/// Groups inside of each other in a schema.
const SCHEMA_DEPTH: usize = 64;
/// Columns, which is what groups end in.
const COLUMNS: usize = 10_000;

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It goes on behind the end of the bytes.
    Short,
    /// It is no such structure.
    Wrong(&'static str),
}

type Read<T> = Result<T, Unreadable>;

/// Reads from bytes in order.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

// What a field holds, as it is written.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Goes on at a place of the bytes.
    pub(super) fn from(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Where the next byte is read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Unreadable::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn pass(&mut self, bytes: u64) -> Read<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if bytes > left {
            return Err(Unreadable::Short);
        }
        self.at += bytes as usize;
        Ok(())
    }

    pub(super) fn varint(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable::Wrong("a number has more than 64 bits"))
    }

    fn integer(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Goes through the fields of a structure; `each` gets number and kind of a field and says whether it has read it.
    fn fields(&mut self, depth: usize, each: &mut dyn FnMut(&mut Self, i64, u8) -> Read<bool>) -> Read<()> {
        if depth > DEPTH {
            return Err(Unreadable::Wrong("it is nested too deep"));
        }
        let mut number = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            number = match head >> 4 {
                0 => self.integer()?,
                delta => number.saturating_add(i64::from(delta)),
            };
            let kind = head & 0x0f;
            if !each(self, number, kind)? {
                self.skip(kind, depth)?;
            }
        }
    }

    /// Kind and number of the elements of a list. Each takes a byte at least.
    fn list(&mut self) -> Read<(u8, u64)> {
        let head = self.byte()?;
        let len = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if len > (self.bytes.len() - self.at) as u64 {
            return Err(Unreadable::Short);
        }
        Ok((head & 0x0f, len))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Read<()> {
        match kind {
            TRUE | FALSE => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            BINARY => {
                let len = self.varint()?;
                self.pass(len)
            }
            LIST | 10 => {
                let (kind, len) = self.list()?;
                (0..len).try_for_each(|_| self.element(kind, depth))
            }
            11 => {
                let len = self.varint()?;
                if len == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..len).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 0x0f, depth)
                })
            }
            STRUCT => self.fields(depth + 1, &mut |_, _, _| Ok(false)),
            13 => self.pass(16),
            _ => Err(Unreadable::Wrong("a field has no kind that there is")),
        }
    }

    /// An element of a list, where true and false take a byte.
    fn element(&mut self, kind: u8, depth: usize) -> Read<()> {
        match kind {
            TRUE | FALSE => self.pass(1),
            _ if depth > DEPTH => Err(Unreadable::Wrong("it is nested too deep")),
            LIST | 10 | 11 => self.skip(kind, depth + 1),
            kind => self.skip(kind, depth),
        }
    }
}

/// Checks the description of a whole file, which stands at its end: that everything in it is there, and that its schema
/// is no deeper and no wider than any data set.
pub(super) fn check_footer(bytes: &[u8]) -> Read<()> {
    let mut thrift = Thrift::new(bytes);
    thrift.fields(0, &mut |thrift, number, kind| {
        if (number, kind) != (2, LIST) {
            return Ok(false);
        }
        let (kind, len) = thrift.list()?;
        if kind != STRUCT {
            return Err(Unreadable::Wrong("its schema is no list of elements"));
        }
        check_schema(thrift, len)?;
        Ok(true)
    })
}

/// Elements of a schema, each before what is in it.
fn check_schema(thrift: &mut Thrift<'_>, len: u64) -> Read<()> {
    let mut open: Vec<i64> = Vec::new();
    let mut columns = 0;
    for _ in 0..len {
        let mut children = 0;
        thrift.fields(1, &mut |thrift, number, kind| {
            let found = (number, kind) == (5, I32);
            if found {
                children = thrift.integer()?;
            }
            Ok(found)
        })?;
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        match children {
            0 => columns += 1,
            1.. => open.push(children),
            _ => return Err(Unreadable::Wrong("a group of its schema has less than no columns")),
        }
        if open.len() > SCHEMA_DEPTH {
            return Err(Unreadable::Wrong("its schema is nested more than 64 deep"));
        }
        if columns > COLUMNS {
            return Err(Unreadable::Wrong("it has more than 10000 columns"));
        }
    }
    Ok(())
}

/// What stands before a page.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: i64,
    /// Bytes of the page when it is unpacked.
    pub(super) unpacked: i64,
    /// Bytes of the page in the file.
    pub(super) packed: i64,
    /// Values, nulls included; of a dictionary its entries.
    pub(super) values: i64,
    pub(super) encoding: i64,
    /// Encodings of definition and repetition levels in pages of version 1.
    pub(super) levels: [i64; 2],
    /// Nulls and rows in pages of version 2.
    pub(super) nulls: i64,
    pub(super) rows: i64,
    /// Bytes of definition and repetition levels in pages of version 2.
    pub(super) level_bytes: [i64; 2],
    /// Whether the values of a page of version 2 are unpacked already.
    pub(super) plain: bool,
}

impl PageHeader {
    pub(super) fn read(thrift: &mut Thrift<'_>) -> Read<Self> {
        let mut header = Self::default();
        thrift.fields(0, &mut |thrift, number, kind| {
            let into = match (number, kind) {
                (1, I32) => &mut header.kind,
                (2, I32) => &mut header.unpacked,
                (3, I32) => &mut header.packed,
                (5, STRUCT) => return header.data(thrift).map(|()| true),
                (7, STRUCT) => return header.dictionary(thrift).map(|()| true),
                (8, STRUCT) => return header.data_of_version_2(thrift).map(|()| true),
                _ => return Ok(false),
            };
            *into = thrift.integer()?;
            Ok(true)
        })?;
        Ok(header)
    }

    fn data(&mut self, thrift: &mut Thrift<'_>) -> Read<()> {
        self.integers(thrift, |header, number| match number {
            1 => Some(&mut header.values),
            2 => Some(&mut header.encoding),
            3 => Some(&mut header.levels[0]),
            4 => Some(&mut header.levels[1]),
            _ => None,
        })
    }

    fn dictionary(&mut self, thrift: &mut Thrift<'_>) -> Read<()> {
        self.integers(thrift, |header, number| match number {
            1 => Some(&mut header.values),
            2 => Some(&mut header.encoding),
            _ => None,
        })
    }

    fn data_of_version_2(&mut self, thrift: &mut Thrift<'_>) -> Read<()> {
        self.integers(thrift, |header, number| match number {
            1 => Some(&mut header.values),
            2 => Some(&mut header.nulls),
            3 => Some(&mut header.rows),
            4 => Some(&mut header.encoding),
            5 => Some(&mut header.level_bytes[0]),
            6 => Some(&mut header.level_bytes[1]),
            _ => None,
        })
    }

    fn integers(
        &mut self,
        thrift: &mut Thrift<'_>,
        place: impl Fn(&mut Self, i64) -> Option<&mut i64>,
    ) -> Read<()> {
        thrift.fields(1, &mut |thrift, number, kind| {
            if (number, kind) == (7, FALSE) {
                self.plain = true;
            }
            match place(self, number).filter(|_| kind == I32) {
                Some(into) => *into = thrift.integer()?,
                None => return Ok(false),
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure with one field: its number, kind and bytes.
    fn structure(number: u8, kind: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 4 | kind][..], bytes, &[0]].concat()
    }

    fn schema(children: &[u8]) -> Vec<u8> {
        let element = |n: &u8| if *n == 0 { vec![0] } else { structure(5, I32, &[n << 1]) };
        let list = [&[0xf0 | STRUCT, children.len() as u8 | 0x80, (children.len() >> 7) as u8][..]]
            .concat()
            .into_iter()
            .chain(children.iter().flat_map(element));
        structure(2, LIST, &list.collect::<Vec<u8>>())
    }

    #[test]
    fn what_is_not_there_and_what_is_too_deep_is_refused() {
        assert_eq!(check_footer(&schema(&[2, 0, 1, 0])), Ok(()));
        let whole = schema(&[1; 60]);
        assert_eq!(check_footer(&whole), Ok(()));
        for length in 0..whole.len() {
            assert_eq!(check_footer(&whole[..length]), Err(Unreadable::Short), "{length}");
        }
        assert_eq!(
            check_footer(&schema(&[1; 70])),
            Err(Unreadable::Wrong("its schema is nested more than 64 deep"))
        );
        // A list of 2^40 elements in a few bytes.
        let long = structure(4, LIST, &[0xf0 | STRUCT, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
        assert_eq!(check_footer(&long), Err(Unreadable::Short));
        let deep: Vec<u8> = std::iter::repeat_n(1 << 4 | STRUCT, 1000).collect();
        assert_eq!(check_footer(&deep), Err(Unreadable::Wrong("it is nested too deep")));
        let lists: Vec<u8> =
            std::iter::once(1 << 4 | LIST).chain(std::iter::repeat_n(1 << 4 | LIST, 1000)).collect();
        assert_eq!(check_footer(&lists), Err(Unreadable::Wrong("it is nested too deep")));
        assert!(check_footer(&[0x1e]).is_err() && check_footer(&[0xff; 40]).is_err());
    }

    #[test]
    fn headers_of_pages() {
        // A page of version 1 with statistics that are passed over.
        let statistics = structure(1, BINARY, &[2, 7, 7]);
        let mut data = vec![0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c];
        data.extend(&statistics);
        data.push(0);
        let header = [&[0x15, 0, 0x15, 40, 0x15, 20, 0x2c][..], &data, &[0]].concat();
        let mut thrift = Thrift::new(&header);
        let read = PageHeader::read(&mut thrift).unwrap();
        let want =
            PageHeader { unpacked: 20, packed: 10, values: 7, levels: [3, 3], ..PageHeader::default() };
        assert_eq!((read, thrift.position()), (want, header.len()));
        for length in 0..header.len() {
            assert_eq!(
                PageHeader::read(&mut Thrift::new(&header[..length])),
                Err(Unreadable::Short),
                "{length}"
            );
        }
    }
}
