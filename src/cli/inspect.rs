//! `alluvium inspect`: reads one object, from a file or the store, checks all of it and prints it.
//!
//! What the object is follows from its last bytes (a segment, a fence, part of a run) or its first (metadata is JSON). A directory store is read
//! as files, so that it can be looked at while a broker holds its lock.

use std::path::Path;

use serde_json::Value;

use super::{Failure, render, render_run};
use crate::config::Settings;
use crate::meta::entry::Entry;
use crate::meta::snapshot;
use crate::meta::table::bucket;
use crate::segment::{
    RUNS_PREFIX, RunTail, Tail, parse_run_key, parse_run_tail, parse_segment_key, parse_tail, parse_unnamed_run_tail,
    parse_unnamed_tail, verify_body, verify_run_body,
};
use crate::store::ReadRange;
use crate::store::open::{StoreUrl, open};

const METADATA: &str = "meta/";

/// An object and what to call it.
struct Object {
    label: String,
    /// The key, if the name tells it: then the content must go with it.
    key: Option<String>,
    bytes: Vec<u8>,
}

pub fn inspect(settings: &Settings, what: &str, as_json: bool) -> Result<(), Failure> {
    let object = fetch(settings, what)?;
    let text = describe(&object.label, object.key.as_deref(), &object.bytes, as_json).map_err(Failure::Run)?;
    super::print(&text);
    Ok(())
}

fn fetch(settings: &Settings, what: &str) -> Result<Object, Failure> {
    if Path::new(what).is_file() {
        return read_file(Path::new(what), key_in(what));
    }
    let revision;
    let what = match what.parse::<u64>() {
        Ok(number) => {
            revision = format!("{}{number:020}", bucket::PREFIX);
            revision.as_str()
        }
        Err(_) => what,
    };
    let is_key = ["segments/", "runs/", "meta/"].iter().any(|folder| what.starts_with(folder)) && !what.contains("..");
    if !is_key {
        return Err(Failure::Run(format!(
            "{what}: no such file, no key of a store (segments/…, runs/… or meta/…) and no revision"
        )));
    }
    match settings.store_url().map_err(Failure::Usage)? {
        StoreUrl::Local(root) => {
            let path = root.join(what);
            if !path.is_file() {
                return Err(Failure::Run(format!("{what}: no such object in {}", settings.store)));
            }
            read_file(&path, Some(what.to_owned()))
        }
        StoreUrl::Memory => Err(Failure::Usage("store memory: is gone when its process ends".to_owned())),
        StoreUrl::S3 { .. } => read_store(settings, what),
    }
}

/// The key that stands at the end of a path.
fn key_in(path: &str) -> Option<String> {
    let key = &path[["segments/", RUNS_PREFIX, METADATA].iter().filter_map(|folder| path.rfind(folder)).max()?..];
    let is_key = key.starts_with(METADATA) || parse_segment_key(key).is_ok() || parse_run_key(key).is_ok();
    is_key.then(|| key.to_owned())
}

fn read_file(path: &Path, key: Option<String>) -> Result<Object, Failure> {
    let label = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Failure::Run(format!("{label}: {error}")))?;
    Ok(Object { label, key, bytes })
}

fn read_store(settings: &Settings, key: &str) -> Result<Object, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("the runtime does not start: {error}")))?;
    // Only a local folder calls this, and none is opened here.
    let options = settings.open_options(std::sync::Arc::new(|reason| eprintln!("alluvium: {reason}")));
    let store = open(&settings.store, &options).map_err(|error| Failure::Run(error.to_string()))?;
    let read = runtime.block_on(store.read(key, ReadRange::Full)).map_err(|error| Failure::Run(error.to_string()))?;
    Ok(Object { label: key.to_owned(), key: Some(key.to_owned()), bytes: read.bytes.to_vec() })
}

/// What `inspect` prints of the bytes of an object, as text or JSON, or what is wrong with them. `label` names it in both; `key` is
/// its name in the store, if that is known.
pub fn describe(label: &str, key: Option<&str>, bytes: &[u8], as_json: bool) -> Result<String, String> {
    if key.is_some_and(|key| key.starts_with(METADATA)) || bytes.first() == Some(&b'{') {
        return metadata(label, key, bytes);
    }
    let size = bytes.len() as u64;
    if let Some(text) = run(label, key, bytes, as_json) {
        return text;
    }
    let tail = match key {
        Some(key) => parse_tail(key, size, bytes),
        None => parse_unnamed_tail(label, size, bytes),
    };
    let pretty = |value: serde_json::Value| format!("{value:#}\n");
    match tail.map_err(|error| error.to_string())? {
        Tail::Segment(tail) => {
            verify_body(label, bytes, &tail.footer).map_err(|error| error.to_string())?;
            let json = as_json.then(|| pretty(render::segment_json(label, bytes, &tail)));
            Ok(json.unwrap_or_else(|| render::segment(label, bytes, &tail)))
        }
        Tail::Fence(fence) if as_json => Ok(pretty(render::fence_json(label, &fence))),
        Tail::Fence(fence) => Ok(render::fence(label, &fence)),
        Tail::NeedMore(more) => Err(format!("{label}: {more} bytes are needed of {size}")),
    }
}

/// An object of a run or a manifest; `None`: it is neither.
fn run(label: &str, key: Option<&str>, bytes: &[u8], as_json: bool) -> Option<Result<String, String>> {
    let size = bytes.len() as u64;
    let tail = match key {
        Some(key) if key.starts_with(RUNS_PREFIX) => parse_run_tail(key, size, bytes),
        None if bytes.ends_with(b"ALVM-RUN") || bytes.ends_with(b"ALVM-MAN") => {
            parse_unnamed_run_tail(label, size, bytes)
        }
        _ => return None,
    };
    let describe = || match tail.map_err(|error| error.to_string())? {
        RunTail::Object(footer) => {
            let batches = verify_run_body(label, bytes, &footer).map_err(|error| error.to_string())?;
            Ok(if as_json {
                render_run::object_json(label, &footer)
            } else {
                render_run::object(label, batches, &footer)
            })
        }
        RunTail::Manifest(manifest) if as_json => Ok(render_run::manifest_json(label, &manifest)),
        RunTail::Manifest(manifest) => Ok(render_run::manifest(label, &manifest)),
        RunTail::NeedMore(more) => Err(format!("{label}: {more} bytes are needed of {size}")),
    };
    Some(describe())
}

/// Metadata is JSON. Revisions and snapshots are understood in full, of other objects it is enough that they are JSON.
fn metadata(label: &str, key: Option<&str>, bytes: &[u8]) -> Result<String, String> {
    let damaged = |reason: String| format!("{label}: no metadata: {reason}");
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    let values = values.map_err(|error| damaged(error.to_string()))?;
    let number = |prefix: &str| key.and_then(|key| key.strip_prefix(prefix)?.parse::<u64>().ok());
    // A file whose name tells nothing is what its content says.
    let said = values.first().and_then(|value| value["revision"].as_u64()).filter(|_| key.is_none());
    let is_snapshot = values.first().is_some_and(|value| value.get("format").is_some());
    if let Some(revision) = number(bucket::PREFIX).or(said.filter(|_| !is_snapshot)) {
        Entry::decode(revision, bytes).map_err(|error| damaged(error.to_string()))?;
    } else if let Some(revision) = number(snapshot::PREFIX).or(said) {
        snapshot::decode(revision, bytes).map_err(|error| damaged(error.to_string()))?;
    }
    Ok(values.iter().map(|value| format!("{value:#}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(object: &Object, as_json: bool) -> Result<String, String> {
        super::describe(&object.label, object.key.as_deref(), &object.bytes, as_json)
    }
    use crate::meta::entry::Change;

    fn object(name: &str, key: Option<&str>) -> Object {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment").join(name);
        Object { label: name.to_owned(), key: key.map(str::to_owned), bytes: std::fs::read(path).unwrap() }
    }

    /// The entry of one revision under the name of another.
    fn revision(revision: u64, name: u64) -> Object {
        let bytes = Entry::new(revision, 5, vec![Change::Nop {}]).encode().to_vec();
        Object { label: "r".to_owned(), key: Some(format!("meta/log/{name:020}")), bytes }
    }

    #[test]
    fn metadata_is_described() {
        for object in [revision(7, 7), Object { key: None, ..revision(7, 7) }] {
            assert!(describe(&object, false).unwrap().contains("\"type\": \"nop\""));
        }
        let image = crate::meta::image::Image { revision: 3, ..Default::default() };
        let object = |key: Option<&str>| Object {
            label: "s".to_owned(),
            key: key.map(str::to_owned),
            bytes: snapshot::encode(&image).to_vec(),
        };
        assert!(describe(&object(None), false).unwrap().contains("\"revision\": 3"));
        assert!(describe(&object(Some("meta/snapshots/00000000000000000003")), true).is_ok());
        assert!(describe(&object(Some("meta/snapshots/00000000000000000004")), true).is_err());
        assert!(describe(&object(Some("meta/log/00000000000000000003")), true).is_err());
    }

    #[test]
    fn objects_are_described() {
        let text = describe(&object("v1-segment.bin", None), false).unwrap();
        for part in
            ["number     130", "70000000000..70000000002", "commit by coordinator epoch 12", "2 footers, of 127 to 128"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&describe(&object("v1-segment.bin", None), true).unwrap()).unwrap();
        assert_eq!(json["extents"][0]["batches"][1]["base_sequence"], 20);
        assert!(describe(&object("v1-fence.bin", None), false).unwrap().contains("fence, format 1"));
        assert!(describe(&object("v1-empty.bin", None), true).unwrap().contains("\"extents\": []"));
    }

    #[test]
    fn runs_are_described() {
        let key = "runs/00000000000000000077-fedcba9876543210/";
        let text = describe(&object("v1-manifest.bin", Some(&format!("{key}manifest"))), false).unwrap();
        for part in ["segments 120 to 130", "manifest, format 1", "2 objects", "9000000000", "70000000000..70000000002"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let text = describe(&object("v1-run-0.bin", Some(&format!("{key}{:020}", 0))), false).unwrap();
        assert!(text.contains("object of a run, format 1") && text.contains("in 4 batches"), "{text}");
        for name in ["v1-manifest.bin", "v1-run-1.bin"] {
            let json: serde_json::Value = serde_json::from_str(&describe(&object(name, None), true).unwrap()).unwrap();
            assert_eq!(json["run"], "00000000000000000077-fedcba9876543210");
        }
        let error = describe(&object("v1-run-1.bin", Some(&format!("{key}{:020}", 0))), false).unwrap_err();
        assert!(error.contains("its name says runs/"), "{error}");
        assert!(describe(&object("v1-segment.bin", Some(&format!("{key}manifest"))), false).is_err());
        let path = format!("/data/{key}manifest");
        assert_eq!(key_in(&path).as_deref(), Some(&path[6..]));
    }

    #[test]
    fn damage_is_named() {
        let mut damaged = object("v1-segment.bin", None);
        damaged.bytes[70] ^= 1;
        let error = describe(&damaged, false).unwrap_err();
        assert!(error.starts_with("v1-segment.bin: partition") && error.contains("CRC-32C"), "{error}");
        let key = "segments/00000000000000000042-0123456789abcdef/00000000000000000131";
        let error = describe(&object("v1-segment.bin", Some(key)), false).unwrap_err();
        assert!(error.contains("its name says segments/"), "{error}");
        let error = describe(&revision(7, 8), false).unwrap_err();
        assert_eq!(error, "r: no metadata: it says that it is revision 7");
        let mut damaged = revision(7, 7);
        damaged.bytes[30] ^= 1;
        assert!(describe(&damaged, false).unwrap_err().starts_with("r: no metadata: "));
    }

    #[test]
    fn keys_are_found_in_paths() {
        let key = "segments/00000000000000000042-0123456789abcdef/00000000000000000131";
        assert_eq!(key_in(&format!("/data/{key}")).as_deref(), Some(key));
        assert_eq!(key_in("./x/meta/log/00000000000000000007").as_deref(), Some("meta/log/00000000000000000007"));
        assert_eq!(key_in("segments/copy.bin"), None);
        assert_eq!(key_in("copy.bin"), None);
    }
}
