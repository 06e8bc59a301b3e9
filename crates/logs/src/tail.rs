//! The end of a log, as frames: bytes stay as the task wrote them.

use std::collections::VecDeque;

use crate::{Frame, LogError};

/// Frames that hold the last `lines` lines of a stream; the first is cut where the first of these lines begins.
///
/// # Errors
/// What reading the frames gives.
pub fn tail_frames(
    frames: impl IntoIterator<Item = Result<Frame, LogError>>,
    lines: usize,
) -> Result<Vec<Frame>, LogError> {
    let (mut kept, mut ends) = (VecDeque::new(), 0);
    for frame in frames {
        let frame = frame?;
        ends += line_ends(&frame);
        kept.push_back(frame);
        while kept.len() > 1 && kept.front().is_some_and(|first| spare(first, ends, lines_needed(&kept, lines))) {
            ends -= kept.pop_front().map_or(0, |first| line_ends(&first));
        }
    }
    let surplus = ends.saturating_sub(lines_needed(&kept, lines));
    if let Some(first) = kept.front_mut() {
        let line_ends = first.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let cut = line_ends.take(surplus).last().unwrap_or(0);
        first.bytes.drain(..cut);
    }
    Ok(kept.into())
}

/// Whether the lines wanted are whole without the first frame, which may hold the beginning of one.
fn spare(first: &Frame, ends: usize, needed: usize) -> bool {
    let left = ends - line_ends(first);
    left > needed || (left == needed && first.bytes.last() == Some(&b'\n'))
}

/// Line ends to keep: an unfinished last line counts as a line without an end.
fn lines_needed(kept: &VecDeque<Frame>, lines: usize) -> usize {
    let finished = kept.back().is_none_or(|last| last.bytes.last() == Some(&b'\n'));
    if finished { lines } else { lines.saturating_sub(1) }
}

fn line_ends(frame: &Frame) -> usize {
    frame.bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pieces: &[&str], lines: usize) -> String {
        let frames = pieces.iter().map(|text| Ok(Frame { at_us: 0, note: false, bytes: text.as_bytes().to_vec() }));
        let kept = tail_frames(frames, lines).unwrap();
        kept.into_iter().map(|frame| String::from_utf8(frame.bytes).unwrap()).collect()
    }

    #[test]
    fn the_last_lines_are_kept_whatever_the_frames() {
        assert_eq!(tail(&["a\nb\nc\n"], 2), "b\nc\n");
        assert_eq!(tail(&["a\nb", "\nc\n"], 2), "b\nc\n");
        assert_eq!(tail(&["a\nb\n", "c"], 2), "b\nc");
        assert_eq!(tail(&["a\n", "b\n", "c\n"], 5), "a\nb\nc\n");
        assert_eq!(tail(&["abc"], 1), "abc");
        assert_eq!(tail(&[], 3), "");
    }
}
