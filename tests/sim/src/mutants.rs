//! The planted bugs by name, and the kinds of schedules that are most likely to catch each: they are tried first.

use alluvium::types::mutant::Mutant;

use crate::plan::Kind;

pub fn name(mutant: Mutant) -> String {
    format!("{mutant:?}")
}

pub fn find(name: &str) -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}").eq_ignore_ascii_case(name))
}

/// Kinds that can show this bug. Seeds of other kinds are passed over in the search.
pub fn kinds(mutant: Mutant) -> &'static [Kind] {
    match mutant {
        Mutant::ServeWithoutProof | Mutant::IgnoreFence | Mutant::EndFromReads => {
            &[Kind::Paused, Kind::CutOff, Kind::Takeover]
        }
        Mutant::TruncateWithoutMarker | Mutant::AppendWithoutLook => &[Kind::CutOff, Kind::Paused],
        Mutant::SkipDamaged | Mutant::FenceFromZero | Mutant::IgnoreRuns => &[Kind::Damage],
        Mutant::CommitUnverified => &[Kind::Corrupt],
        Mutant::CheckpointAhead => &[Kind::Crashes, Kind::Slow, Kind::Unclear, Kind::Takeover],
        Mutant::ForgetCheckpointProducers => &[Kind::Crashes, Kind::Unclear, Kind::Network],
        Mutant::TrustLostMeta | Mutant::TrustTaken | Mutant::TrustUnclear | Mutant::RetryTakesMore => {
            &[Kind::Unclear, Kind::Crashes, Kind::Slow]
        }
        Mutant::DuplicateAnsweredEarly => &[Kind::Slow, Kind::Unclear, Kind::CutOff],
        Mutant::AckAtSessionEnd => &[Kind::Denied, Kind::Takeover, Kind::Paused, Kind::CutOff],
        _ => &[],
    }
}
