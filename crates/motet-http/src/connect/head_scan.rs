use thiserror::Error;

/// Counts the bytes of the heads of one HTTP/1.1 response, interim heads (1xx) included, and refuses framing that is
/// ambiguous.
///
/// hyper bounds each head separately, so a server could send interim heads without end. hyper also tolerates irregular
/// fields, which must not apply to the fields about the length of the body.
#[derive(Debug, Clone)]
pub(super) struct HeadScan {
    most: usize,
    seen: usize,
    /// `true` once the final head has ended.
    is_done: bool,
    /// The number of finished lines of this head.
    lines: usize,
    /// The first bytes of the line, in lower case.
    begun: [u8; LONGEST],
    /// The number of bytes of the line, without its end.
    length: usize,
    /// `true` if the line belongs to a field about the length of the body.
    is_framing: bool,
    /// `true` if the previous line belongs to such a field.
    was_framing: bool,
    is_interim: bool,
}

/// Long enough for the names in [`FRAMING`] and the byte after them.
const LONGEST: usize = 18;

/// The fields about the length of the body.
const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

/// The reason why a response is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum HeadFault {
    #[error("the head of the response has more than {0} bytes, interim responses (1xx) included")]
    TooLong(usize),
    #[error("a field about the length of the response body is malformed")]
    Framing,
}

impl HeadScan {
    /// Starts at the first byte of a response.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            seen: 0,
            is_done: false,
            lines: 0,
            begun: [0; LONGEST],
            length: 0,
            is_framing: false,
            was_framing: false,
            is_interim: false,
        }
    }

    /// Returns `true` if the final head has ended: the body follows.
    pub(super) fn end(&mut self) {
        self.is_done = true;
    }

    /// Starts the next response.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.most);
    }

    /// The number of head bytes so far.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Scans the next bytes; bytes after the final head are skipped.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), HeadFault> {
        for &byte in bytes {
            if self.is_done {
                return Ok(());
            }
            self.seen += 1;
            if self.seen > self.most {
                return Err(HeadFault::TooLong(self.most));
            }
            match byte {
                b'\n' => self.end_line(),
                byte => self.take(byte)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, byte: u8) -> Result<(), HeadFault> {
        let at = self.length;
        self.length += 1;
        if self.lines > 0 && at == 0 && matches!(byte, b' ' | b'\t') && self.was_framing {
            // A folded line: one parser reads it as part of the value, another as a separate line.
            return Err(HeadFault::Framing);
        }
        if self.is_framing {
            let is_text = matches!(byte, b'\t' | b'\r' | b' '..=b'~');
            return if is_text { Ok(()) } else { Err(HeadFault::Framing) };
        }
        if at < LONGEST {
            self.begun[at] = byte.to_ascii_lowercase();
        }
        if self.lines > 0 && FRAMING.iter().any(|name| at == name.len() && self.begun[..at] == **name) {
            match byte {
                b':' => self.is_framing = true,
                // The name of another field continues.
                byte if is_of_name(byte) => {}
                _ => return Err(HeadFault::Framing),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let is_empty = self.length == 0 || (self.length == 1 && self.begun[0] == b'\r');
        match (self.lines, is_empty) {
            // Parsers skip empty lines before a head.
            (0, true) => {}
            (0, false) => {
                self.lines = 1;
                // 101 is final: another protocol follows.
                let status = &self.begun[9..12];
                self.is_interim = self.length >= 12 && status[0] == b'1' && status != b"101";
            }
            (_, true) if self.is_interim => self.lines = 0,
            (_, true) => self.is_done = true,
            (_, false) => self.lines += 1,
        }
        self.length = 0;
        self.was_framing = std::mem::take(&mut self.is_framing);
    }
}

/// Returns `true` for a byte that a field name may contain (RFC 9110, 5.6.2).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    fn scan(bytes: &[u8]) -> Result<(usize, bool), HeadFault> {
        let mut scan = HeadScan::new(1_000);
        scan.feed(bytes).map(|()| (scan.seen(), scan.is_done))
    }

    #[test]
    fn bytes_are_counted_to_the_end_of_the_final_head() {
        for (answer, seen, is_done) in [
            (&b"HTTP/1.1 200 OK\r\n\r\nbody"[..], 19, true),
            (b"HTTP/1.1 204 No Content\nx: y\n\nbody", 30, true),
            (b"\r\nHTTP/1.1 200\r\n\r\n", 18, true),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\r\n", 44, true),
            (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", 37, false),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\nx", 36, true),
            (b"HTTP/1.1 200 OK\r\nx: ", 20, false),
        ] {
            let text = String::from_utf8_lossy(answer);
            assert_eq!(scan(answer), Ok((seen, is_done)), "{text:?}");
        }
    }

    #[test]
    fn interim_heads_count_together_towards_the_limit() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut scan = HeadScan::new(interim.len() * 10);
        for _ in 0..10 {
            scan.feed(interim).unwrap();
        }
        assert_eq!(scan.feed(b"H"), Err(HeadFault::TooLong(250)));
    }

    #[test]
    fn restart_renews_the_head_limit_and_end_removes_it() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut scan = HeadScan::new(interim.len());
        scan.feed(interim).unwrap();
        scan.restart();
        scan.feed(interim).unwrap();
        scan.end();
        scan.feed(&[b'x'; 10_000]).unwrap();
    }

    #[test]
    fn malformed_header_is_refused_only_if_it_frames_the_body() {
        for (field, is_good) in [
            ("content-length: 5", true),
            ("Content-Length:5", true),
            ("Transfer-Encoding: chunked", true),
            ("content-length-hint : 5", true),
            ("x-content-length : 5", true),
            ("x : y\r\n folded", true),
            ("x\u{1}: y", true),
            ("content-length : 5", false),
            ("Transfer-Encoding\t: chunked", false),
            ("transfer-encoding\u{b}: chunked", false),
            ("content-length: 5\u{1}", false),
            ("content-length: 5\r\n 6", false),
            ("transfer-encoding: chunked,\r\n\tgzip", false),
        ] {
            let found = scan(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes());
            assert_eq!(found.is_ok(), is_good, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn head_in_two_pieces_is_scanned_like_the_whole(
            lines in prop::collection::vec("[a-z:\\- \r]{0,24}", 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = format!("HTTP/1.1 100 Continue\r\n{}\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", lines.join("\r\n"));
            let (begin, end) = whole.as_bytes().split_at(cut.index(whole.len()));
            let mut pieces = HeadScan::new(1_000);
            let fed = pieces.feed(begin).and_then(|()| pieces.feed(end));
            prop_assert_eq!(fed.map(|()| (pieces.seen, pieces.is_done)), scan(whole.as_bytes()));
        }
    }
}
