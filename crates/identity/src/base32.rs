//! Bytes as text that people read, paste and sometimes type: Crockford's base 32, in small letters. There is no i, l, o or u;
//! who types an o or an l means 0 and 1.

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Why a text is not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// This character, counted from 1, is none of the alphabet.
    Character { found: char, position: usize },
    /// The last character cannot be the last.
    Length,
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(DIGITS[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(DIGITS[(held << (5 - bits) & 31) as usize]));
    }
    text
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Undecodable> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for (at, found) in text.chars().enumerate() {
        let digit = digit(found).ok_or(Undecodable::Character { found, position: at + 1 })?;
        held = (held << 5 | digit) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    // What is left over is less than a digit and zero, so that one token has one text.
    let leftover = held & ((1 << bits) - 1);
    if bits >= 5 || leftover != 0 { Err(Undecodable::Length) } else { Ok(bytes) }
}

fn digit(character: char) -> Option<u32> {
    let character = match character.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    let at = DIGITS.iter().position(|digit| char::from(*digit) == character)?;
    Some(at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_are_read_back() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37) ^ 0xa5).collect();
            let text = encode(&bytes);
            assert_eq!(decode(&text).as_ref(), Ok(&bytes), "{text}");
            assert_eq!(decode(&text.to_uppercase()), Ok(bytes), "{text} in capitals");
        }
    }

    #[test]
    fn letters_that_are_taken_for_digits_are_those_digits_and_others_are_named() {
        assert_eq!(decode("OoIlL100"), decode("00111100"));
        assert_eq!(decode("0u"), Err(Undecodable::Character { found: 'u', position: 2 }));
        assert_eq!(decode("0!"), Err(Undecodable::Character { found: '!', position: 2 }));
        assert_eq!(decode("0"), Err(Undecodable::Length));
        assert_eq!(decode("01"), Err(Undecodable::Length), "the bits left over are not zero");
    }
}
