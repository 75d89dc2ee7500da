/// Finds the frames that begin and end the streams of an HTTP/2 connection, in the bytes of one direction (RFC 9113, 4.1).
#[derive(Debug, Clone)]
pub(super) struct FrameScan {
    /// The number of bytes until the next frame begins.
    skip: usize,
    /// The head of the frame: its length, type, flags and stream.
    head: [u8; 9],
    /// The number of these bytes so far.
    filled: usize,
}

/// The head of a frame, as far as it concerns the life of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: u32,
    /// `true` for headers: of a request, a response, or trailers.
    pub(super) has_headers: bool,
    /// `true` if its side sends nothing more on the stream.
    pub(super) is_last: bool,
    /// `true` if the stream has ended for both sides.
    pub(super) is_reset: bool,
}

/// The length of the text that a client sends before its first frame.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// The flag of `DATA` and `HEADERS` for the last frame of a side.
const END_STREAM: u8 = 1;

impl FrameScan {
    /// Starts at the first byte that a client writes.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE, ..Self::of_server() }
    }

    /// Starts at the first byte that a server writes.
    pub(super) fn of_server() -> Self {
        Self { skip: 0, head: [0; 9], filled: 0 }
    }

    /// Scans the next bytes, and reports each frame whose head ends in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut report: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = bytes.len().min(self.head.len() - self.filled);
            self.head[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.head.len() {
                let [high, middle, low, kind, flags, stream @ ..] = self.head;
                self.filled = 0;
                self.skip = usize::from(high) * 0x1_0000 + usize::from(middle) * 0x100 + usize::from(low);
                report(Frame {
                    stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
                    has_headers: kind == HEADERS,
                    is_last: matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0,
                    is_reset: kind == RST_STREAM,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    type Written = (u8, u8, u32, usize);

    fn frame((kind, flags, stream, length): Written) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        // A payload that looks like the head of a frame of headers.
        let payload = [0, 0, 0, HEADERS].into_iter().cycle().take(length);
        let head = [high, middle, low, kind, flags].into_iter().chain(stream.to_be_bytes());
        head.chain(payload).collect()
    }

    fn written(frames: &[Written]) -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.iter().fold(preface, |bytes, each| [bytes, frame(*each)].concat())
    }

    fn scanned(scan: &mut FrameScan, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        scan.feed(bytes, |frame| frames.push(frame));
        frames
    }

    #[test]
    fn frames_are_told_apart_by_type_and_flags() {
        const SETTINGS_ACK: (u8, u8) = (4, 1);
        let bytes = written(&[
            (SETTINGS_ACK.0, SETTINGS_ACK.1, 0, 0),
            (HEADERS, 4, 1, 30),
            (DATA, 0, 1, 70_000),
            (DATA, END_STREAM, 1, 5),
            (RST_STREAM, 0, 0x8000_0003, 4),
        ]);
        let plain = Frame { stream: 1, has_headers: false, is_last: false, is_reset: false };
        let expected = [
            Frame { stream: 0, ..plain },
            Frame { has_headers: true, ..plain },
            plain,
            Frame { is_last: true, ..plain },
            Frame { stream: 3, is_reset: true, ..plain },
        ];
        assert_eq!(scanned(&mut FrameScan::of_client(), &bytes), expected);
        assert_eq!(scanned(&mut FrameScan::of_server(), &bytes[PREFACE..]), expected);
    }

    proptest! {
        #[test]
        fn frames_in_two_pieces_are_scanned_like_the_whole(
            frames in prop::collection::vec((0..10_u8, 0..8_u8, 0..9_u32, 0..50_usize), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = written(&frames);
            let (begin, end) = whole.split_at(cut.index(whole.len()));
            let mut scan = FrameScan::of_client();
            let pieces = [scanned(&mut scan, begin), scanned(&mut scan, end)].concat();
            prop_assert_eq!(pieces.len(), frames.len());
            prop_assert_eq!(pieces, scanned(&mut FrameScan::of_client(), &whole));
        }
    }
}
