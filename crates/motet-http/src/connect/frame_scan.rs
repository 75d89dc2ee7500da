/// Finds the requests among the frames that an HTTP/2 client writes (RFC 9113, 4.1).
///
/// A connection without requests also writes: it answers a `PING` or `SETTINGS`, or returns window.
#[derive(Debug, Clone)]
pub(super) struct FrameScan {
    /// The number of bytes until the next frame begins.
    skip: usize,
    /// The first bytes of the frame: its length and its type.
    head: [u8; 4],
    /// The number of these bytes so far.
    filled: usize,
}

/// The length of the text that a client sends before its first frame.
const PREFACE: usize = 24;

/// The bytes of the head of a frame after its type.
const REST_OF_HEAD: usize = 5;

/// The type of a frame that begins a request, or has the trailers of one.
const HEADERS: u8 = 1;

impl FrameScan {
    /// Starts at the first byte of a connection.
    pub(super) fn new() -> Self {
        Self { skip: PREFACE, head: [0; 4], filled: 0 }
    }

    /// Scans the next bytes. Returns `true` if a frame of headers begins in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_headers = false;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.filled] = first;
            self.filled += 1;
            bytes = rest;
            if self.filled == self.head.len() {
                let [high, middle, low, kind] = self.head;
                has_headers |= kind == HEADERS;
                self.filled = 0;
                self.skip = REST_OF_HEAD
                    + usize::from(high) * 0x1_0000
                    + usize::from(middle) * 0x100
                    + usize::from(low);
            }
        }
        has_headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        // A payload that looks like the head of a frame of headers.
        let payload = [0, 0, 0, HEADERS].into_iter().cycle().take(length);
        [high, middle, low, kind, 0, 0, 0, 0, 1].into_iter().chain(payload).collect()
    }

    fn written(frames: &[(u8, usize)]) -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.iter().fold(preface, |bytes, (kind, length)| [bytes, frame(*kind, *length)].concat())
    }

    #[test]
    fn only_a_frame_of_headers_is_a_request() {
        const PING: u8 = 6;
        assert!(!FrameScan::new().feed(&written(&[(4, 18), (8, 4), (PING, 8), (0, 70_000), (PING, 8)])));
        assert!(FrameScan::new().feed(&written(&[(4, 18), (0, 70_000), (HEADERS, 30)])));
    }

    proptest! {
        #[test]
        fn frames_in_two_pieces_are_scanned_like_the_whole(
            frames in prop::collection::vec((0..10_u8, 0..50_usize), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = written(&frames);
            let (begin, end) = whole.split_at(cut.index(whole.len()));
            let mut scan = FrameScan::new();
            let (first, second) = (scan.feed(begin), scan.feed(end));
            prop_assert_eq!(first || second, frames.iter().any(|(kind, _)| *kind == HEADERS));
        }
    }
}
