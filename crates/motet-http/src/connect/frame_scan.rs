/// Finds the frames that begin and end the streams of an HTTP/2 connection, in the bytes of one direction (RFC 9113, 4.1).
#[derive(Debug, Clone)]
pub(super) struct FrameScan {
    /// The number of bytes until the next frame begins.
    skip: usize,
    /// The head of the frame: its length, type, flags and stream.
    head: [u8; 9],
    /// The number of these bytes so far.
    filled: usize,
    /// The end of a stream, which comes with the last byte of its frame.
    end: Option<FrameEvent>,
    /// The stream whose last headers continue in further frames.
    continued: Option<u32>,
}

/// The meaning of a frame for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameEvent {
    /// Headers begin on it: of a request, a response, or trailers.
    Headers(u32),
    /// Its side has sent everything.
    Ended(u32),
    /// It has ended for both sides.
    Reset(u32),
}

/// The length of the text that a client sends before its first frame.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

/// The flag of `DATA` and `HEADERS` for the last frame of a side.
const END_STREAM: u8 = 1;
/// The flag of `HEADERS` and `CONTINUATION` for the last frame of the headers.
const END_HEADERS: u8 = 4;

impl FrameScan {
    /// Starts at the first byte that a client writes.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE, ..Self::of_server() }
    }

    /// Starts at the first byte that a server writes.
    pub(super) fn of_server() -> Self {
        Self { skip: 0, head: [0; 9], filled: 0, end: None, continued: None }
    }

    /// Scans the next bytes. Headers are reported at the head of their frame, and the end of a stream at the last byte of
    /// its last frame.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut report: impl FnMut(FrameEvent)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let taken = bytes.len().min(self.head.len() - self.filled);
                self.head[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled < self.head.len() {
                    return;
                }
                self.begin(&mut report);
            }
            if self.skip == 0
                && let Some(end) = self.end.take()
            {
                report(end);
            }
        }
    }

    /// Begins a frame, whose head is complete.
    fn begin(&mut self, report: &mut impl FnMut(FrameEvent)) {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        self.filled = 0;
        self.skip = usize::from(high) * 0x1_0000 + usize::from(middle) * 0x100 + usize::from(low);
        let is_last = flags & END_STREAM != 0;
        let is_whole = flags & END_HEADERS != 0;
        match kind {
            HEADERS => {
                report(FrameEvent::Headers(stream));
                self.continued = (is_last && !is_whole).then_some(stream);
                self.end = (is_last && is_whole).then_some(FrameEvent::Ended(stream));
            }
            CONTINUATION if is_whole => self.end = self.continued.take().map(FrameEvent::Ended),
            DATA if is_last => self.end = Some(FrameEvent::Ended(stream)),
            RST_STREAM => self.end = Some(FrameEvent::Reset(stream)),
            _ => {}
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

    fn scanned(scan: &mut FrameScan, bytes: &[u8]) -> Vec<FrameEvent> {
        let mut events = Vec::new();
        scan.feed(bytes, |event| events.push(event));
        events
    }

    #[test]
    fn frames_are_told_apart_by_type_and_flags() {
        const SETTINGS_ACK: (u8, u8) = (4, 1);
        let bytes = written(&[
            (SETTINGS_ACK.0, SETTINGS_ACK.1, 0, 0),
            (HEADERS, END_HEADERS, 1, 30),
            (DATA, 0, 1, 70_000),
            (DATA, END_STREAM, 1, 5),
            (RST_STREAM, 0, 0x8000_0003, 4),
            (HEADERS, END_STREAM, 5, 9),
            (CONTINUATION, 0, 5, 9),
            (CONTINUATION, END_HEADERS, 5, 9),
            (HEADERS, END_HEADERS | END_STREAM, 7, 0),
        ]);
        let expected = [
            FrameEvent::Headers(1),
            FrameEvent::Ended(1),
            FrameEvent::Reset(3),
            FrameEvent::Headers(5),
            FrameEvent::Ended(5),
            FrameEvent::Headers(7),
            FrameEvent::Ended(7),
        ];
        assert_eq!(scanned(&mut FrameScan::of_client(), &bytes), expected);
        assert_eq!(scanned(&mut FrameScan::of_server(), &bytes[PREFACE..]), expected);
    }

    #[test]
    fn stream_ends_with_the_last_byte_of_its_frame() {
        let bytes = written(&[(DATA, END_STREAM, 1, 5)]);
        let mut scan = FrameScan::of_client();
        assert_eq!(scanned(&mut scan, &bytes[..bytes.len() - 1]), []);
        assert_eq!(scanned(&mut scan, &bytes[bytes.len() - 1..]), [FrameEvent::Ended(1)]);
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
            prop_assert_eq!(pieces, scanned(&mut FrameScan::of_client(), &whole));
        }
    }
}
