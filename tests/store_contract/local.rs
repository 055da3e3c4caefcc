//! What only a folder can go through: two processes, kill -9, left-overs, a full disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alluvium::store::local::{LocalError, LocalStore};
use alluvium::store::{ReadRange, Store, StoreError};
use bytes::Bytes;

use crate::backends::fatal;
use crate::small_disk::SmallDisk;

/// Set for the child process of a test: the folder it works in.
const CHILD_FOLDER: &str = "ALLUVIUM_TEST_CHILD_FOLDER";

fn open(folder: &Path) -> LocalStore {
    LocalStore::open(folder, fatal()).expect("the folder opens")
}

/// Runs this test binary again, for one of the `child_…` functions below.
fn child(function: &str, folder: &Path) -> KilledAtEnd {
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", &format!("local::{function}"), "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child process");
    KilledAtEnd(child)
}

/// A child that no failing test leaves behind.
struct KilledAtEnd(Child);

impl KilledAtEnd {
    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        // Killing twice is no harm, and there is nobody to tell.
        let _ended = (self.0.kill(), self.0.wait());
    }
}

fn child_folder() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD_FOLDER).map(Into::into)
}

/// Lines that the child prints with `say`.
fn said(child: &mut KilledAtEnd) -> impl Iterator<Item = String> + use<> {
    let output = child.0.stdout.take().expect("piped");
    BufReader::new(output).lines().map_while(Result::ok).filter_map(|line| Some(line.split_once("say ")?.1.to_owned()))
}

#[test]
#[ignore = "runs as a child process"]
fn child_holds_the_folder() {
    let Some(folder) = child_folder() else { return };
    let _store = open(&folder);
    println!("\nsay ready");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
#[ignore = "runs as a child process"]
fn child_writes_for_ever() {
    let Some(folder) = child_folder() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = std::sync::Arc::new(open(&folder));
        let writers = (0..4u8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let key = format!("segments/s{writer}-{}/{number}", number / 10);
                    store.create(&key, body_of(&key)).await.expect("created");
                    println!("\nsay {key}");
                }
            })
        });
        futures::future::join_all(writers).await;
    });
}

/// Sizes from a few bytes to a few pages.
fn body_of(key: &str) -> Bytes {
    let number = key.bytes().fold(7usize, |hash, byte| (hash * 31 + usize::from(byte)) % 50_021);
    Bytes::from(key.bytes().cycle().take(number + 1).collect::<Vec<u8>>())
}

#[test]
fn a_second_process_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut holder = child("child_holds_the_folder", folder.path());
    assert_eq!(said(&mut holder).next().as_deref(), Some("ready"));
    let refused = LocalStore::open(folder.path(), fatal()).err().expect("refused");
    let text = refused.to_string();
    assert!(matches!(refused, LocalError::InUse { .. }), "{text}");
    let path = folder.path().canonicalize().expect("a path");
    assert!(
        text.contains(&format!("process {}", holder.0.id())) && text.contains(path.to_str().expect("text")),
        "{text}"
    );
    holder.kill();
    let store = open(folder.path());
    assert!(LocalStore::open(folder.path(), fatal()).is_err());
    drop(store);
    open(folder.path());
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = std::collections::BTreeSet::new();
    for life in 0..3 {
        let data = folder.path().join(format!("life-{life}"));
        let mut writer = child("child_writes_for_ever", &data);
        let mut lines = said(&mut writer);
        acknowledged.clear();
        acknowledged.extend(lines.by_ref().take(100 + 37 * life));
        writer.kill();
        // Whole lines only: the last one may be cut off by the kill.
        let rest: Vec<String> = lines.collect();
        acknowledged.extend(rest.iter().rev().skip(1).cloned());
        let store = open(&data);
        for key in &acknowledged {
            let read = store.read(key, ReadRange::Full).await.expect("acknowledged");
            assert_eq!(read.bytes, body_of(key), "{key}");
        }
        // What was not acknowledged is there as a whole or not at all.
        let listed = store.list("", None, usize::MAX).await.expect("a list");
        assert!(listed.len() >= acknowledged.len());
        for object in listed {
            let read = store.read(&object.key, ReadRange::Full).await.expect("listed");
            assert_eq!(read.bytes, body_of(&object.key), "{}", object.key);
        }
        assert_eq!(std::fs::read_dir(data.join(".tmp")).expect("a folder").count(), 0);
    }
}

/// States that a power cut leaves: temporary files of any content, never a final name.
#[tokio::test]
async fn left_overs_are_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.create("segments/s/0", Bytes::from_static(b"whole")).await.expect("free");
    drop(store);
    let temporary = folder.path().join(".tmp");
    std::fs::write(temporary.join("0000000000000000"), b"").expect("written");
    std::fs::write(temporary.join("0000000000000001"), vec![0; 8192]).expect("written");
    std::fs::hard_link(folder.path().join("segments/s/0"), temporary.join("0000000000000002")).expect("linked");
    std::fs::create_dir_all(folder.path().join("meta/probe/empty")).expect("made");
    std::fs::create_dir_all(folder.path().join("lost+found")).expect("made");
    let store = open(folder.path());
    assert_eq!(std::fs::read_dir(&temporary).expect("a folder").count(), 0);
    assert!(!folder.path().join("meta").exists(), "emptied folders go away");
    assert!(folder.path().join("lost+found").exists(), "what is not ours stays");
    let listed = store.list("", None, 10).await.expect("a list");
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["segments/s/0"]);
    store.create("segments/s/1", Bytes::from_static(b"next")).await.expect("free");
    let read = store.read("segments/s/0", ReadRange::Full).await.expect("there");
    assert_eq!(read.bytes, "whole");
}

#[tokio::test]
async fn a_file_in_the_way_is_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.create("a/b", Bytes::from_static(b"file")).await.expect("free");
    let created = store.create("a/b/c", Bytes::from_static(b"below a file")).await;
    assert!(matches!(created, Err(StoreError::Permanent { .. })), "{created:?}");
    let read = store.read("a", ReadRange::Full).await;
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
}

#[tokio::test]
async fn a_full_disk_still_takes_a_fence() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let folder = disk.path().join("data");
    let store = open(&folder);
    let large = Bytes::from(vec![1; 1 << 20]);
    let mut written = 0;
    let refused = loop {
        match store.create(&format!("segments/s/{written}"), large.clone()).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 40, "the disk is small");
    };
    assert!(matches!(&refused, StoreError::Permanent { reason, .. } if reason.contains("no space left")), "{refused}");
    assert!((12..16).contains(&written), "16 MiB are kept back: {written}");
    // Fill the rest, so that only the reserve is left.
    let filler = std::fs::File::create(disk.path().join("filler")).expect("a file");
    let chunk = [0u8; 4096];
    while std::io::Write::write_all(&mut &filler, &chunk).is_ok() {}

    store.create("segments/s/fence", Bytes::from(vec![2; 100])).await.expect("a fence fits");
    assert!(!folder.join(".reserve").exists());
    let refused = store.create("segments/s/large", large.clone()).await;
    assert!(matches!(refused, Err(StoreError::Permanent { .. })), "{refused:?}");
    for number in 0..written {
        store.read(&format!("segments/s/{number}"), ReadRange::Suffix(10)).await.expect("readable");
    }
    drop(store);

    // A restart on the full disk works, and room brings the reserve back.
    let store = open(&folder);
    std::fs::remove_file(disk.path().join("filler")).expect("removed");
    for number in 0..5 {
        store.delete(&format!("segments/s/{number}")).await.expect("deleted");
    }
    store.create("segments/s/large", large).await.expect("there is room");
    assert!(folder.join(".reserve").exists());
}
