//! `alluvium inspect`: reads one object, from a file or the store, checks all of it and prints it.
//!
//! What the object is follows from its last bytes (a segment, a fence) or its first (metadata is JSON). A directory store is read
//! as files, so that it can be looked at while a broker holds its lock.

use std::path::Path;

use super::{Failure, render};
use crate::config::{Settings, StoreLocation};
use crate::meta::entry::Entry;
use crate::segment::{Tail, parse_segment_key, parse_tail, parse_unnamed_tail, verify_body};

/// Metadata revisions have such keys; their content is an [`Entry`].
const REVISIONS: &str = "meta/log/";

/// An object and what to call it.
struct Object {
    label: String,
    /// The key, if the name tells it: then the content must go with it.
    key: Option<String>,
    bytes: Vec<u8>,
}

pub fn inspect(settings: &Settings, what: &str, as_json: bool) -> Result<(), Failure> {
    let object = fetch(settings, what)?;
    let text = describe(&object, as_json).map_err(Failure::Run)?;
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
            revision = format!("{REVISIONS}{number:020}");
            revision.as_str()
        }
        Err(_) => what,
    };
    let is_key = ["segments/", "runs/", "meta/"].iter().any(|folder| what.starts_with(folder)) && !what.contains("..");
    if !is_key {
        return Err(Failure::Run(format!(
            "{what}: no such file, no key of a store (segments/… or meta/…) and no revision"
        )));
    }
    match settings.store_location().map_err(Failure::Usage)? {
        StoreLocation::Directory(root) => {
            let path = root.join(what);
            if !path.is_file() {
                return Err(Failure::Run(format!("{what}: no such object in {}", settings.store)));
            }
            read_file(&path, Some(what.to_owned()))
        }
        StoreLocation::Memory => Err(Failure::Usage("store memory: is gone when its process ends".to_owned())),
        StoreLocation::S3 { .. } => read_store(settings, what),
    }
}

/// The key that stands at the end of a path.
fn key_in(path: &str) -> Option<String> {
    let starts = ["segments/", REVISIONS].iter().filter_map(|folder| path.rfind(folder));
    let key = &path[starts.max()?..];
    (key.starts_with(REVISIONS) || parse_segment_key(key).is_ok()).then(|| key.to_owned())
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
    let bytes = runtime.block_on(async {
        let store = crate::broker::open_store(settings).await.map_err(|error| Failure::Run(error.to_string()))?;
        let read = store.read(key, crate::store::ReadRange::Full).await;
        read.map_err(|error| Failure::Run(error.to_string()))
    })?;
    Ok(Object { label: key.to_owned(), key: Some(key.to_owned()), bytes: bytes.bytes.to_vec() })
}

fn describe(object: &Object, as_json: bool) -> Result<String, String> {
    let Object { label, key, bytes } = object;
    let is_revision = key.as_ref().is_some_and(|key| key.starts_with(REVISIONS));
    if is_revision || bytes.first() == Some(&b'{') {
        return metadata(label, bytes, is_revision);
    }
    let size = bytes.len() as u64;
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

fn metadata(label: &str, bytes: &[u8], is_revision: bool) -> Result<String, String> {
    let damaged = |error: serde_json::Error| format!("{label}: no metadata: {error}");
    if is_revision {
        serde_json::from_slice::<Entry>(bytes).map_err(damaged)?;
    }
    // A snapshot is two values: its head and the image.
    let mut text = String::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>() {
        text.push_str(&format!("{:#}\n", value.map_err(damaged)?));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, key: Option<&str>) -> Object {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment").join(name);
        Object { label: name.to_owned(), key: key.map(str::to_owned), bytes: std::fs::read(path).unwrap() }
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
    fn damage_is_named() {
        let mut damaged = object("v1-segment.bin", None);
        damaged.bytes[70] ^= 1;
        let error = describe(&damaged, false).unwrap_err();
        assert!(error.starts_with("v1-segment.bin: partition") && error.contains("CRC-32C"), "{error}");
        let key = "segments/00000000000000000042-0123456789abcdef/00000000000000000131";
        let error = describe(&object("v1-segment.bin", Some(key)), false).unwrap_err();
        assert!(error.contains("its name says segments/"), "{error}");
        let revision =
            Object { label: "r".into(), key: Some("meta/log/1".into()), bytes: b"{\"version\": 1}".to_vec() };
        assert!(describe(&revision, false).unwrap_err().starts_with("r: no metadata: missing field"));
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
