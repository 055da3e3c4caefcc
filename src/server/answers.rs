//! Writes answers, and knows when a client has taken too long to read one.
//!
//! An answer that is written holds memory: its own, or segments and blocks of which it shows a part. A client that does not read at once
//! gets a copy of what it has still to read, which holds nothing else. Large answers are charged to budgets (see [`crate::api::unread`]);
//! while a good part of one is taken, clients that do not read go, so that those who read are served.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::connection::Ended;
use crate::api::unread::Unread;
use crate::log::append::budget::Charge;

/// An answer that is being written must make progress within this.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// And within this when others need its room.
const PRESSED_STALL_LIMIT: Duration = Duration::from_secs(2);

/// Under pressure an answer may take so long in all, and longer by what it takes at this pace.
const SLOW_GRACE: Duration = Duration::from_secs(5);
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;

/// What was not read within this is copied.
const COPY_AFTER: Duration = Duration::from_secs(1);

/// In steps of this.
const COPY_STEP: usize = 128 << 10;

/// An answer that is not taken is looked at so often.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Slices of one write.
const SLICES_MAX: usize = 64;

/// Writes an answer to its end. `charge`: what it holds of a budget, if it is large.
pub(super) async fn send<W: AsyncWrite + Unpin>(
    output: &mut W,
    chunks: Vec<Bytes>,
    charge: &Charge,
    unread: &Unread,
) -> Result<(), Ended> {
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    let mut chunks = VecDeque::from(chunks);
    let mut copied = false;
    let begun = Instant::now();
    let mut moved = begun;
    while !chunks.is_empty() {
        let slices: Vec<_> = chunks.iter().take(SLICES_MAX).map(|chunk| IoSlice::new(chunk)).collect();
        match timeout(LOOK_PAUSE, output.write_vectored(&slices)).await {
            Ok(Ok(0)) => return Err(Ended::ByClient),
            Ok(written) => {
                moved = Instant::now();
                advance(&mut chunks, written?);
            }
            Err(_) => {}
        }
        let pressed = charge.bytes() > 0 && unread.under_pressure();
        if !chunks.is_empty() && is_overdue(begun.elapsed(), moved.elapsed(), bytes, pressed) {
            return Err(Ended::Unread);
        }
        if !copied && begun.elapsed() > COPY_AFTER {
            chunks = VecDeque::from([joined(chunks).await]);
            copied = true;
        }
    }
    Ok(())
}

fn advance(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = chunks.front_mut() {
        if written < first.len() {
            first.advance(written);
            return;
        }
        written -= first.len();
        chunks.pop_front();
    }
}

/// The same bytes in memory of their own. Whatever else is ready has its turn between two steps.
async fn joined(chunks: VecDeque<Bytes>) -> Bytes {
    let mut all = Vec::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        for step in chunk.chunks(COPY_STEP) {
            all.extend_from_slice(step);
            yield_now().await;
        }
    }
    all.into()
}

/// Whether a client that has been sent an answer of so many bytes for so long, and took the last of them so long ago, has to go.
fn is_overdue(taken: Duration, stalled: Duration, bytes: usize, pressed: bool) -> bool {
    let allowed = SLOW_GRACE + Duration::from_secs(1).mul_f64(bytes as f64 / SLOWEST_BYTES_PER_SECOND as f64);
    stalled >= STALL_LIMIT || (pressed && (stalled >= PRESSED_STALL_LIMIT || taken > allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_goes_sooner_under_pressure() {
        let at = Duration::from_secs;
        for (taken, stalled, pressed, expected) in [
            (59, 59, false, false),
            (60, 60, false, true),
            (3600, 1, false, false),
            (1, 1, true, false),
            (2, 2, true, true),
            (15, 0, true, false),
            (16, 0, true, true),
        ] {
            let overdue = is_overdue(at(taken), at(stalled), 10 << 20, pressed);
            assert_eq!(overdue, expected, "{taken} s, {stalled} s, {pressed}");
        }
    }

    #[tokio::test]
    async fn what_was_written_is_gone() {
        let all = || VecDeque::from([Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"de")]);
        for (written, left) in [(0, "abcde"), (2, "cde"), (3, "de"), (4, "e"), (5, "")] {
            let mut chunks = all();
            advance(&mut chunks, written);
            assert_eq!(joined(chunks).await, left.as_bytes(), "{written}");
        }
        let mut chunks = all();
        advance(&mut chunks, 5);
        assert!(chunks.is_empty(), "empty chunks too");
    }
}
