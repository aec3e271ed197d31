//! What goes over a connection: a kind, the number of an exchange, a length, bytes.
use std::io::{self, Read, Write};

/// Longest frame, in bytes: more than a part of any exchange.
const MOST: u64 = 1 << 36;
/// Bytes that are made room for before they have come.
const AT_ONCE: usize = 64 << 20;
/// Shorter frames are written at once.
const SHORT: usize = 1 << 16;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of an exchange.
    Data = 1,
    /// Nothing, but the sender is alive.
    Alive = 2,
    /// The sender has ended as it should.
    Bye = 3,
    /// The run is over: why.
    Abort = 4,
}

/// What came over a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn write(to: &mut impl Write, kind: Kind, number: u64, bytes: &[u8]) -> io::Result<()> {
    let mut head = vec![kind as u8];
    head.extend(number.to_le_bytes());
    head.extend((bytes.len() as u64).to_le_bytes());
    if bytes.len() < SHORT {
        head.extend(bytes);
        return to.write_all(&head);
    }
    to.write_all(&head)?;
    to.write_all(bytes)
}

pub(super) fn read(from: &mut impl Read) -> io::Result<Frame> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (mut kind, mut number, mut length) = ([0u8; 1], [0u8; 8], [0u8; 8]);
    from.read_exact(&mut kind)?;
    from.read_exact(&mut number)?;
    from.read_exact(&mut length)?;
    let kind = match kind[0] {
        1 => Kind::Data,
        2 => Kind::Alive,
        3 => Kind::Bye,
        4 => Kind::Abort,
        _ => return Err(bad("a frame of an unknown kind")),
    };
    let length = u64::from_le_bytes(length);
    if length > MOST {
        return Err(bad("a frame that is too long"));
    }
    let length = usize::try_from(length).map_err(|_| bad("a frame that is too long"))?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let begin = bytes.len();
        bytes.resize(length.min(begin + AT_ONCE), 0);
        from.read_exact(&mut bytes[begin..])?;
    }
    Ok(Frame { kind, number: u64::from_le_bytes(number), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_torn_ones_are_errors() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Data, 7, &[1, 2, 3]).unwrap();
        write(&mut bytes, Kind::Data, 8, &vec![9; SHORT]).unwrap();
        write(&mut bytes, Kind::Bye, 0, &[]).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from).unwrap(), Frame { kind: Kind::Data, number: 7, bytes: vec![1, 2, 3] });
        assert_eq!(read(&mut from).unwrap().bytes.len(), SHORT);
        assert_eq!(read(&mut from).unwrap().kind, Kind::Bye);
        assert_eq!(read(&mut from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for cut in [1, 16, 19] {
            assert!(read(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        assert!(read(&mut &[9u8; 40][..]).unwrap_err().to_string().contains("unknown kind"));
        let mut long = bytes.clone();
        long[9..17].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&mut long.as_slice()).unwrap_err().to_string().contains("too long"));
    }
}
