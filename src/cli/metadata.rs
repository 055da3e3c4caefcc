//! `alluvium metadata dump|tail|verify|copy`: the metadata table for people.
//!
//! `dump` and `tail` print one entry a line, as it stands in the table; one that this program can't read is printed as a line of its own kind
//! (`{"revision":…,"fault":…}`) and makes the exit code 1. `verify` exits with 1 if the table is not sound.

use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;

use super::folder::Folder;
use super::{Failure, print};
use crate::broker::{open_store, table_settings};
use crate::config::Settings;
use crate::meta::audit::{self, Audit};
use crate::meta::backends::{self, TableSettings};
use crate::meta::entry::Entry;
use crate::meta::table::TableRef;
use crate::meta::{MetaError, MetaOptions, copy};
use crate::store::StoreRef;
use crate::store::open::StoreUrl;
use crate::types::Revision;
use crate::types::env::Env;
use crate::types::table_url::TableUrl;

/// Entries of one read.
const READ_MAX: usize = 1000;

/// `tail` looks so often, where the table does not tell, and begins so many entries before the end.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const TAIL_ENTRIES: Revision = 10;

pub fn run(settings: &Settings, command: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("the runtime does not start: {error}")))?;
    let from = matches.try_get_one::<Revision>("from").ok().flatten().copied();
    runtime.block_on(async {
        match command {
            "dump" => dump(settings, from).await,
            "tail" => tail(settings, from).await,
            "verify" => verify(settings, matches.get_flag("json")).await,
            _ => {
                let to: &String = matches.get_one("to").expect("clap requires it");
                move_to(settings, to).await
            }
        }
    })
}

fn failed(error: MetaError) -> Failure {
    Failure::Run(error.to_string())
}

/// The store, to look at: a local directory without its lock.
async fn readable(settings: &Settings) -> Result<StoreRef, Failure> {
    match settings.store_url().map_err(Failure::Usage)? {
        StoreUrl::Local(root) => Ok(Arc::new(Folder::new(root))),
        StoreUrl::Memory => Err(Failure::Usage("store memory: is gone when its process ends".to_owned())),
        StoreUrl::S3 { .. } => writable(settings).await,
    }
}

async fn writable(settings: &Settings) -> Result<StoreRef, Failure> {
    open_store(settings).await.map_err(|error| Failure::Run(error.to_string()))
}

async fn dump(settings: &Settings, from: Option<Revision>) -> Result<(), Failure> {
    let store = readable(settings).await?;
    let (_, _, table) = backends::find(&store, &Env::system(), &table_settings(settings)).await.map_err(failed)?;
    let first = audit::bounds(&table).await.map_err(failed)?.map_or(1, |(first, _)| first);
    let mut printer = Printer { next: from.unwrap_or(first).max(1), faults: 0 };
    loop {
        while !printer.read(&table).await.map_err(failed)? {}
        let beyond = table.at_or_after(printer.next).await.map_err(|error| Failure::Run(error.to_string()))?;
        let Some(found) = beyond else { break };
        printer.skip_to(found);
    }
    match printer.faults {
        0 => Ok(()),
        faults => Err(Failure::Run(format!("{faults} entries are missing or can't be read"))),
    }
}

async fn tail(settings: &Settings, from: Option<Revision>) -> Result<(), Failure> {
    let store = readable(settings).await?;
    let (_, _, table) = backends::find(&store, &Env::system(), &table_settings(settings)).await.map_err(failed)?;
    let last = audit::bounds(&table).await.map_err(failed)?.map_or(0, |(_, last)| last);
    let mut printer = Printer { next: from.unwrap_or((last + 1).saturating_sub(TAIL_ENTRIES)).max(1), faults: 0 };
    loop {
        match printer.read(&table).await {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => eprintln!("alluvium: {error}; trying on"),
        }
        let _told_or_not = tokio::time::timeout(LOOK_PAUSE, table.changed(printer.next - 1)).await;
    }
}

/// Prints entries in order.
struct Printer {
    next: Revision,
    faults: u64,
}

impl Printer {
    /// Prints some of what follows; true at the end.
    async fn read(&mut self, table: &TableRef) -> Result<bool, MetaError> {
        let read = table.read(self.next, READ_MAX).await;
        let chunk = read.map_err(|error| MetaError::Unavailable(error.to_string()))?;
        let mut text = String::new();
        for body in &chunk.bodies {
            let (line, sound) = line(self.next, body);
            text.push_str(&line);
            text.push('\n');
            self.next += 1;
            self.faults += u64::from(!sound);
        }
        print(&text);
        Ok(chunk.end)
    }
}

impl Printer {
    /// Says that revisions are not there, if they are not.
    fn skip_to(&mut self, found: Revision) {
        if found > self.next {
            let fault = format!("revisions {} to {} are not there", self.next, found - 1);
            print(&format!("{}\n", serde_json::json!({ "revision": self.next, "fault": fault })));
            self.faults += 1;
            self.next = found;
        }
    }
}

/// The entry as it stands in the table, if it is one, and whether it is.
fn line(revision: Revision, body: &[u8]) -> (String, bool) {
    let fault = match (Entry::decode(revision, body), std::str::from_utf8(body)) {
        (Ok(_), Ok(text)) if !text.contains('\n') => return (text.to_owned(), true),
        (Ok(_), _) => "it is not one line of text".to_owned(),
        (Err(error), _) => error.to_string(),
    };
    let body = String::from_utf8_lossy(body);
    (serde_json::json!({ "revision": revision, "fault": fault, "body": body }).to_string(), false)
}

async fn verify(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let env = Env::system();
    let store = readable(settings).await?;
    let (cluster, place, table) = backends::find(&store, &env, &table_settings(settings)).await.map_err(failed)?;
    let audit =
        audit::audit(&store, &env, &table, (&cluster, &place), &MetaOptions::default()).await.map_err(failed)?;
    if as_json {
        print(&format!("{:#}\n", serde_json::to_value(&audit).expect("an audit is plain")));
    } else {
        print(&described(&audit));
    }
    match audit.faults.len() as u64 + audit.more_faults {
        0 => Ok(()),
        faults => Err(Failure::Run(format!("the metadata table has {faults} faults"))),
    }
}

fn described(audit: &Audit) -> String {
    let list = |numbers: &[u64]| match numbers {
        [] => "none".to_owned(),
        numbers => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!(
        "cluster      {}\ntable        {}, moved {} times\nrevisions    {} to {}, {} entries\n\
         level        {}\nsnapshots    {}\nreplayed     from revision {}\nclosed       generations {}\n",
        audit.cluster_id,
        audit.table,
        audit.moves,
        audit.first,
        audit.last,
        audit.entries,
        level(audit),
        list(&audit.snapshots),
        audit.replayed_from,
        list(&audit.closed_generations),
    );
    for fault in &audit.faults {
        text.push_str(&format!("fault        {fault}\n"));
    }
    if audit.more_faults > 0 {
        text.push_str(&format!("fault        … and {} more\n", audit.more_faults));
    }
    text
}

fn level(audit: &Audit) -> String {
    match (audit.level, audit.level_supported) {
        (0, _) => "unknown: the entries can't be replayed".to_owned(),
        (level, 0) => format!("{level}, no session is open"),
        (level, supported) => format!("{level}, all open sessions support {supported}"),
    }
}

async fn move_to(settings: &Settings, to: &str) -> Result<(), Failure> {
    let url = TableUrl::parse(to).map_err(|reason| Failure::Usage(format!("--to: {reason}")))?;
    let from = table_settings(settings);
    let to = TableSettings { url, ..from.clone() };
    let store = writable(settings).await?;
    let copied = copy::copy(&store, &Env::system(), &from, &to, &MetaOptions::default()).await.map_err(failed)?;
    print(&format!(
        "cluster {}: {} entries up to revision {} copied from {} and verified.\n\
         The metadata table is in {} now: start the brokers with --metadata {}\n",
        copied.cluster_id, copied.entries, copied.revision, copied.from, copied.to, to.url
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::entry::Change;

    #[test]
    fn entries_are_lines_and_damage_is_one_too() {
        let body = Entry::new(7, 1, vec![Change::Nop {}]).encode();
        assert_eq!(line(7, &body), (String::from_utf8(body.to_vec()).unwrap(), true));
        let (text, sound) = line(8, &body);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(!sound && json["fault"] == "it says that it is revision 7" && json["revision"] == 8, "{text}");
        assert!(!line(7, b"\xff\n").1);
    }

    #[test]
    fn an_audit_reads_well() {
        let audit = Audit {
            cluster_id: "c".to_owned(),
            table: "bucket".to_owned(),
            snapshots: vec![1000, 2000],
            level: 1,
            level_supported: 2,
            faults: vec!["revisions 4 to 5 are not there, 6 is".to_owned()],
            ..Audit::default()
        };
        let text = described(&audit);
        assert!(text.contains("level        1, all open sessions support 2\n"), "{text}");
        assert!(text.contains("snapshots    1000, 2000\n") && text.contains("fault        revisions 4 to 5"), "{text}");
    }
}
