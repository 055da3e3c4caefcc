//! Names of segments and fences: `segments/<session>/<number, 20 digits>`, so that the order of keys is the order of numbers; of the
//! outputs of a merge: `runs/<run>/<number, 20 digits>` and `runs/<run>/manifest`.

use crate::types::{RunId, SegmentNumber, SessionId};

use super::{Damage, SegmentError};

/// The folder of all sessions.
pub const SEGMENTS_PREFIX: &str = "segments/";

/// `segments/<session>/<number, 20 digits>`: a segment or the fence that took its place.
pub fn segment_key(session: SessionId, number: SegmentNumber) -> String {
    format!("{SEGMENTS_PREFIX}{session}/{number:020}")
}

/// The folder of one session, with the slash at its end.
pub fn session_prefix(session: SessionId) -> String {
    format!("{SEGMENTS_PREFIX}{session}/")
}

/// Reads a name back; only the exact spelling of [`segment_key`] is a name.
pub fn parse_segment_key(key: &str) -> Result<(SessionId, SegmentNumber), SegmentError> {
    let parse = || {
        let (session, number) = key.strip_prefix(SEGMENTS_PREFIX)?.split_once('/')?;
        let (session, number) = (session.parse::<SessionId>().ok()?, number.parse::<SegmentNumber>().ok()?);
        (segment_key(session, number) == key).then_some((session, number))
    };
    parse().ok_or_else(|| Damage::Name.of(key))
}

/// The folder of all runs.
pub const RUNS_PREFIX: &str = "runs/";

const MANIFEST: &str = "manifest";

/// What an object below [`RUNS_PREFIX`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPart {
    Object(u64),
    Manifest,
}

/// `runs/<run>/<number, 20 digits>`: an object of a run.
pub fn run_object_key(run: RunId, number: u64) -> String {
    format!("{RUNS_PREFIX}{run}/{number:020}")
}

/// `runs/<run>/manifest`: what names the objects of a run.
pub fn manifest_key(run: RunId) -> String {
    format!("{RUNS_PREFIX}{run}/{MANIFEST}")
}

/// The folder of one run, with the slash at its end.
pub fn run_prefix(run: RunId) -> String {
    format!("{RUNS_PREFIX}{run}/")
}

/// Reads a name back; only the exact spelling is a name.
pub fn parse_run_key(key: &str) -> Result<(RunId, RunPart), SegmentError> {
    let parse = || {
        let (run, part) = key.strip_prefix(RUNS_PREFIX)?.split_once('/')?;
        let run = run.parse::<RunId>().ok()?;
        if manifest_key(run) == key {
            return Some((run, RunPart::Manifest));
        }
        let number = part.parse().ok()?;
        (run_object_key(run, number) == key).then_some((run, RunPart::Object(number)))
    };
    parse().ok_or_else(|| Damage::Name.of(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_by_number() {
        let session = SessionId { revision: 7, random: 0xbeef };
        let key = segment_key(session, 12);
        assert_eq!(key, "segments/00000000000000000007-000000000000beef/00000000000000000012");
        assert_eq!(parse_segment_key(&key), Ok((session, 12)));
        assert!(segment_key(session, 9) < segment_key(session, 10));
        assert!(segment_key(session, 10) < segment_key(session, u64::MAX));
        assert!(key.starts_with(&session_prefix(session)));
    }

    #[test]
    fn names_of_runs_read_back() {
        let run = RunId { revision: 7, random: 0xbeef };
        let folder = "runs/00000000000000000007-000000000000beef/";
        assert_eq!(run_prefix(run), folder);
        for (key, part) in [
            (run_object_key(run, 12), RunPart::Object(12)),
            (manifest_key(run), RunPart::Manifest),
            (run_object_key(run, u64::MAX), RunPart::Object(u64::MAX)),
        ] {
            assert!(key.starts_with(folder) && parse_run_key(&key) == Ok((run, part)), "{key}");
            assert!(parse_segment_key(&key).is_err());
        }
        for bad in ["", "manifests", "12", "0000000000000000001x", "manifest/"] {
            assert!(parse_run_key(&format!("{folder}{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_spellings_are_no_names() {
        for bad in [
            "",
            "segments/",
            "segments/00000000000000000007-000000000000beef",
            "segments/00000000000000000007-000000000000beef/",
            "segments/00000000000000000007-000000000000beef/12",
            "segments/00000000000000000007-000000000000beef/+0000000000000000012",
            "segments/00000000000000000007-000000000000BEEF/00000000000000000012",
            "segments/00000000000000000007-000000000000beef/00000000000000000012/",
            "segments/00000000000000000007-000000000000beef/99999999999999999999",
            "x/segments/00000000000000000007-000000000000beef/00000000000000000012",
        ] {
            assert_eq!(parse_segment_key(bad).map_err(|error| error.damage), Err(Damage::Name), "{bad}");
        }
    }
}
