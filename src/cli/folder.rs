//! A local directory as a store that can only be read, so that it can be looked at while a broker holds its lock.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{ListedObject, ReadBytes, ReadRange, Store, StoreError};

pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Folder {
        Folder { root }
    }
}

fn read_only(key: &str) -> StoreError {
    StoreError::permanent(key, "the folder is only looked at")
}

/// Names below `folder` that begin with `prefix`, all keys below folders included.
fn walk(root: &Path, folder: &Path, prefix: &str, into: &mut Vec<ListedObject>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned) else { continue };
        if path.is_dir() {
            if format!("{key}/").starts_with(prefix) || prefix.starts_with(&format!("{key}/")) {
                walk(root, &path, prefix, into)?;
            }
        } else if key.starts_with(prefix) {
            // A name may go away while the folder is read.
            let Ok(metadata) = path.metadata() else { continue };
            into.push(ListedObject { key, size: metadata.len() });
        }
    }
    Ok(())
}

#[async_trait]
impl Store for Folder {
    async fn create(&self, key: &str, _body: Bytes) -> Result<(), StoreError> {
        Err(read_only(key))
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        let bytes = match std::fs::read(self.root.join(key)) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(StoreError::not_found(key));
            }
            Err(error) => return Err(StoreError::permanent(key, error)),
        };
        let object_size = bytes.len() as u64;
        if range == ReadRange::Full {
            return Ok(ReadBytes { bytes, start: 0, object_size });
        }
        let wanted = range.resolve(object_size).ok_or_else(|| StoreError::permanent(key, "nothing there"))?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Ok(ReadBytes { bytes: bytes.slice(place(wanted.start)..place(wanted.end)), start: wanted.start, object_size })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        Err(read_only(key))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        let mut objects = Vec::new();
        walk(&self.root, &self.root, prefix, &mut objects).map_err(|error| StoreError::permanent(prefix, error))?;
        objects.retain(|object| after.is_none_or(|after| object.key.as_str() > after));
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        objects.truncate(limit);
        Ok(objects)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.list(prefix, None, usize::MAX).await?;
        let names = objects.iter().filter_map(|object| object.key[prefix.len()..].split_once('/'));
        let mut names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn describe(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn endpoint(&self) -> String {
        self.describe()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_what_a_broker_wrote() {
        let folder = tempfile::tempdir().unwrap();
        for (key, body) in [("meta/log/2", "two"), ("meta/log/1", "one"), ("meta/cluster", "c"), ("metal", "x")] {
            let path = folder.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, body).unwrap();
        }
        let store = Folder::new(folder.path().to_owned());
        let keys = async |prefix: &str, after: Option<&str>| {
            let objects = store.list(prefix, after, 9).await.unwrap();
            objects.into_iter().map(|object| object.key).collect::<Vec<_>>()
        };
        assert_eq!(keys("meta/log/", None).await, ["meta/log/1", "meta/log/2"]);
        assert_eq!(keys("meta/", Some("meta/log/1")).await, ["meta/log/2"]);
        assert_eq!(store.list_folders("meta/").await.unwrap(), ["log"]);
        let suffix = store.read("meta/log/1", ReadRange::Suffix(2)).await.unwrap();
        assert_eq!((suffix.bytes, suffix.start, suffix.object_size), (Bytes::from("ne"), 1, 3));
        assert!(matches!(store.read("meta/log/3", ReadRange::Full).await, Err(StoreError::NotFound { .. })));
        assert!(store.create("meta/log/3", Bytes::new()).await.is_err());
    }
}
