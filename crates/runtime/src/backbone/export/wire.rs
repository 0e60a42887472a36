//! Protocol buffers field by field, so that the parts of an ONNX file that an export keeps
//! are copied byte for byte, whatever they hold. What the fields mean is not known here.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub number: u64,
    /// The field as it stands in the message.
    pub whole: &'a [u8],
    /// Its content, of a text, bytes or a message; empty for a number.
    pub payload: &'a [u8],
}

impl<'a> Field<'a> {
    /// Its content as text; empty where it is none.
    pub fn text(&self) -> &'a str {
        std::str::from_utf8(self.payload).unwrap_or_default()
    }
}

/// The fields of a message in their order; `None` when it is damaged.
pub(super) fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let key = varint(&mut rest)?;
        let payload_bytes = match key & 7 {
            0 => {
                varint(&mut rest)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (payload, after) = rest.split_at_checked(payload_bytes)?;
        rest = after;
        found.push(Field {
            number: key >> 3,
            whole: &start[..start.len() - rest.len()],
            payload: if key & 7 == 2 { payload } else { &[] },
        });
    }
    Some(found)
}

/// Appends a text, bytes or a message as a field.
pub(super) fn put(out: &mut Vec<u8>, number: u64, payload: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let long = vec![7; 300];
        let mut message = vec![0x08, 0x96, 0x01];
        put(&mut message, 2, b"name");
        put(&mut message, 200, &long);
        message.extend([0x1d, 1, 2, 3, 4]);
        let found = fields(&message).expect("sound");
        let numbers: Vec<u64> = found.iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 200, 3]);
        assert_eq!((found[1].text(), found[2].payload), ("name", &long[..]));
        let whole: Vec<u8> = found
            .iter()
            .flat_map(|field| field.whole)
            .copied()
            .collect();
        assert_eq!(whole, message);
    }

    #[test]
    fn cut_off_messages_are_refused() {
        let mut message = Vec::new();
        put(&mut message, 1, b"name");
        for end in 1..message.len() {
            assert_eq!(fields(&message[..end]), None, "{end}");
        }
        // A group, and a number without an end.
        assert_eq!(fields(&[0x0b]), None);
        assert_eq!(fields(&[0x80; 11]), None);
    }
}
