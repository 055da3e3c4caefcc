//! The planted bugs by name, and the kinds of schedules that are most likely to catch each: they are tried first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium::types::mutant::Mutant;

use crate::plan::Kind;

/// Seeds that caught planted bugs: they are tried first. `--mutants --keep` writes the file anew.
const KEPT: &str = include_str!("../caught.txt");

pub fn kept() -> BTreeMap<Mutant, u64> {
    let row = |line: &str| {
        let (name, seed) = line.split_once(' ')?;
        Some((find(name)?, seed.trim().parse().ok()?))
    };
    KEPT.lines().filter_map(row).collect()
}

pub fn keep(caught: &BTreeMap<Mutant, u64>) -> std::io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("caught.txt");
    let mut rows: Vec<String> = caught.iter().map(|(mutant, seed)| format!("{} {seed}\n", name(*mutant))).collect();
    rows.sort();
    std::fs::write(&path, rows.concat())?;
    Ok(path)
}

pub fn name(mutant: Mutant) -> String {
    format!("{mutant:?}")
}

pub fn find(name: &str) -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}").eq_ignore_ascii_case(name))
}

/// Kinds that can show this bug. Seeds of other kinds are passed over in the search.
pub fn kinds(mutant: Mutant) -> &'static [Kind] {
    match mutant {
        Mutant::ServeWithoutProof | Mutant::IgnoreFence | Mutant::EndFromReads | Mutant::GrantBeforeFence => {
            &[Kind::Paused, Kind::CutOff, Kind::Takeover]
        }
        Mutant::TruncateWithoutMarker | Mutant::AppendWithoutLook => &[Kind::CutOff, Kind::Paused],
        Mutant::SkipDamaged | Mutant::FenceFromZero | Mutant::IgnoreRuns => &[Kind::Damage],
        Mutant::CommitUnverified => &[Kind::Corrupt],
        Mutant::CheckpointFromLive => &[Kind::Crashes, Kind::Unclear],
        Mutant::CheckpointAhead => &[Kind::Crashes, Kind::Slow, Kind::Unclear, Kind::Takeover],
        Mutant::ForgetCheckpointProducers => &[Kind::Crashes, Kind::Unclear, Kind::Network],
        Mutant::TrustLostMeta | Mutant::TrustTaken | Mutant::TrustUnclear | Mutant::RetryTakesOther => {
            &[Kind::Unclear, Kind::Crashes, Kind::Slow]
        }
        Mutant::DuplicateAnsweredEarly => &[Kind::Slow, Kind::Unclear, Kind::CutOff],
        Mutant::RegainFromMemory => &[Kind::Regain],
        Mutant::CommitEarlierTenure => &[Kind::Regain, Kind::Scaling, Kind::Cluster],
        Mutant::OutOfRangeUnproven => &[Kind::Neighbours, Kind::Cluster, Kind::Regain],
        Mutant::CloseEarly | Mutant::CloseAfterOutage => &[Kind::Neighbours, Kind::Cluster, Kind::Long],
        Mutant::LeaveProven | Mutant::RaiseOverOlder | Mutant::SkipUnknown => &[Kind::Upgrade],
        Mutant::CloseOthersAtStart => &[Kind::Neighbours, Kind::Cluster, Kind::Scaling],
        Mutant::ParkedIsOvertaken => &[Kind::Crashes, Kind::Unclear, Kind::Neighbours, Kind::Cluster, Kind::Scaling],
        Mutant::AckAtSessionEnd => &[Kind::Denied, Kind::Takeover, Kind::Paused, Kind::CutOff],
        _ => &[],
    }
}
