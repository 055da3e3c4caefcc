//! Names in key order, as an object store lists them: a folder's name counts with its slash.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::super::ListedObject;
use super::super::key::check_key;

/// Up to `limit` objects whose key begins with `prefix` and is greater than `after`. Reads the whole of each
/// folder on the way, so a long folder is better listed with one large limit than in many pages.
pub fn list(root: &Path, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<ListedObject>> {
    let mut found = Vec::new();
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder_key = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    walk(root, &folder_key, &Wanted { prefix, after, limit }, &mut found)?;
    Ok(found)
}

/// Names of the folders directly in the folder `prefix`, in order. Empty ones do not count, as in an object store.
pub fn list_folders(root: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut folders = Vec::new();
    for name in names(root, prefix)? {
        if let Some(folder) = name.strip_suffix('/')
            && !list(root, &format!("{prefix}{name}"), None, 1)?.is_empty()
        {
            folders.push(folder.to_owned());
        }
    }
    Ok(folders)
}

struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Wanted<'_> {
    fn object(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }

    /// Whether a folder (with its slash) can hold a wanted object.
    fn folder(&self, key: &str) -> bool {
        let in_prefix = key.starts_with(self.prefix) || self.prefix.starts_with(key);
        in_prefix && self.after.is_none_or(|after| key > after || after.starts_with(key))
    }
}

fn walk(root: &Path, folder_key: &str, wanted: &Wanted<'_>, found: &mut Vec<ListedObject>) -> io::Result<()> {
    let mut kept = BTreeSet::new();
    for name in names(root, folder_key)? {
        let key = format!("{folder_key}{name}");
        let is_wanted = if key.ends_with('/') { wanted.folder(&key) } else { wanted.object(&key) };
        if is_wanted {
            kept.insert(key);
        }
    }
    for key in kept {
        if found.len() >= wanted.limit {
            return Ok(());
        }
        if key.ends_with('/') {
            walk(root, &key, wanted, found)?;
            continue;
        }
        match fs::metadata(root.join(&key)) {
            Ok(metadata) => found.push(ListedObject { key, size: metadata.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a file or folder of this name can be an object's. Not: our own dot files, `lost+found` of the file system.
pub fn is_ours(name: &str) -> bool {
    check_key(name).is_ok()
}

/// Names in a folder, sorted, folders with a slash at the end; what cannot be ours does not count. An absent folder is empty.
fn names(root: &Path, folder_key: &str) -> io::Result<BTreeSet<String>> {
    let entries = match fs::read_dir(root.join(folder_key)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(BTreeSet::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        if !is_ours(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.insert(name);
    }
    Ok(names)
}
