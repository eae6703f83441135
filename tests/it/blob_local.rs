//! Blobs in local folders: what is read is what was written, and no name leads astray.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use health_data_ai::blob::local::{Local, etag_of};
use health_data_ai::blob::{Blobs, CHUNK_BYTES_MAX};
use health_data_ai::error::{Kind, Result};

async fn content(blobs: &Local, container: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(opened) = blobs.open(container, name).await? else { return Ok(None) };
    let chunks: Vec<Bytes> = opened.chunks.try_collect().await?;
    assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX));
    let content = chunks.concat();
    assert_eq!(content.len() as u64, opened.length_bytes);
    Ok(Some(content))
}

/// A root with one container, and a file of `bytes` in it.
fn root_with(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf, Local) {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("drop/file.csv");
    fs::create_dir(root.path().join("drop")).unwrap();
    fs::write(&file, bytes).unwrap();
    let blobs = Local::new(root.path());
    (root, file, blobs)
}

#[tokio::test]
async fn what_is_put_is_read_back_in_bounded_chunks() {
    let root = tempfile::tempdir().unwrap();
    let blobs = Local::new(root.path().join("not/yet/there"));
    assert!(content(&blobs, "drop", "a.csv").await.unwrap().is_none(), "no root, no blob");
    for length in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 3 * CHUNK_BYTES_MAX] {
        let written: Vec<u8> = (0..=250).cycle().take(length).collect();
        blobs.put("drop", "deep/er/é a.csv", Bytes::from(written.clone())).await.unwrap();
        assert!(content(&blobs, "drop", "deep/er/é a.csv").await.unwrap() == Some(written), "{length} bytes");
    }
    let file = root.path().join("not/yet/there/drop/deep/er/é a.csv");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
}

#[tokio::test]
async fn the_entity_tag_is_the_files_time_and_length() {
    let (_root, file, blobs) = root_with(b"abc");
    let etag = blobs.open("drop", "file.csv").await.unwrap().unwrap().etag;
    assert_eq!(etag, etag_of(&fs::metadata(&file).unwrap()));
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let etag = blobs.open("drop", "file.csv").await.unwrap().unwrap().etag;
    assert_eq!(etag, format!("0x{:X}{:08X}", 1_700_000_000_123_456_789_u64, 3));
}

#[tokio::test]
async fn what_is_no_file_is_no_blob() {
    let (root, _file, blobs) = root_with(b"abc");
    fs::create_dir(root.path().join("drop/folder")).unwrap();
    for name in ["folder", "missing.csv", "missing/file.csv", "file.csv/below"] {
        assert!(blobs.open("drop", name).await.unwrap().is_none(), "{name}");
    }
    assert!(blobs.open("other", "file.csv").await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_that_could_lead_astray_is_refused() {
    let (root, _file, blobs) = root_with(b"abc");
    fs::write(root.path().join("secret"), "x").unwrap();
    let names = [
        "../secret",
        "/etc/passwd",
        "",
        "a//b",
        "a/",
        "/",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "a\\b",
        "..\\secret",
        "a\0b",
        "file.csv/",
    ];
    let containers = ["", ".", "..", "a/b", "/", "/etc", "a\\b", "a\0", "../drop"];
    let long = "x".repeat(1025);
    let tries = names.into_iter().chain([long.as_str()]).map(|name| ("drop", name)).chain(containers.map(|c| (c, "file.csv")));
    for (container, name) in tries {
        let Err(opened) = blobs.open(container, name).await else { panic!("{container:?} {name:?} was opened") };
        let put = blobs.put(container, name, Bytes::from_static(b"evil")).await.unwrap_err();
        assert_eq!((opened.kind(), put.kind()), (Kind::Invalid, Kind::Invalid), "{container:?} {name:?}");
    }
    assert_eq!(fs::read(root.path().join("secret")).unwrap(), b"x");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "nothing was made");
}

#[tokio::test]
async fn a_symbolic_link_may_not_leave_the_root() {
    let (root, file, blobs) = root_with(b"inside");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    symlink(outside.path().join("secret"), root.path().join("drop/link")).unwrap();
    symlink(outside.path(), root.path().join("drop/folder")).unwrap();
    symlink(outside.path(), root.path().join("container")).unwrap();
    symlink(&file, root.path().join("drop/within")).unwrap();
    for (container, name) in [("drop", "link"), ("drop", "folder/secret"), ("container", "secret")] {
        let Err(error) = blobs.open(container, name).await else { panic!("{container}/{name} was opened") };
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains("symbolic link"), "{error}");
    }
    for (container, name) in [("drop", "folder/new"), ("drop", "folder/deep/new"), ("container", "new")] {
        assert_eq!(blobs.put(container, name, Bytes::from_static(b"x")).await.unwrap_err().kind(), Kind::Invalid);
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
    assert_eq!(content(&blobs, "drop", "within").await.unwrap().unwrap(), b"inside", "a link within the root is a file");
    // Writing replaces the link, not what it points to.
    blobs.put("drop", "link", Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"outside");
    assert_eq!(content(&blobs, "drop", "link").await.unwrap().unwrap(), b"new");
}

#[tokio::test]
async fn a_blob_overwritten_while_it_is_read_ends_in_an_error() {
    let long = vec![b'a'; 2 * CHUNK_BYTES_MAX + 10];
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, Change); 6] = [
        ("rewritten in place with the same length", |file, long| {
            fs::write(file, vec![b'b'; long.len()]).unwrap();
            let later = fs::metadata(file).unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
            fs::File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
        }),
        ("cut", |file, _| fs::File::options().write(true).open(file).unwrap().set_len(10).unwrap()),
        ("grown", |file, long| fs::write(file, [long, b"more"].concat()).unwrap()),
        ("removed", |file, _| fs::remove_file(file).unwrap()),
        ("replaced by another file with the same time and length", |file, long| {
            let time = fs::metadata(file).unwrap().modified().unwrap();
            let other = file.with_extension("new");
            fs::write(&other, long).unwrap();
            fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
            fs::rename(&other, file).unwrap();
        }),
        ("replaced by put", |file, _| {
            let blobs = Local::new(file.parent().unwrap().parent().unwrap());
            let put = async move { blobs.put("drop", "file.csv", Bytes::from_static(b"new")).await };
            let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
            std::thread::spawn(move || runtime().block_on(put)).join().unwrap().unwrap();
        }),
    ];
    for (how, change) in changes {
        let (_root, file, blobs) = root_with(&long);
        let mut opened = blobs.open("drop", "file.csv").await.unwrap().unwrap();
        let first = opened.chunks.next().await.unwrap().unwrap();
        assert_eq!(first.len(), CHUNK_BYTES_MAX);
        change(&file, &long);
        let rest: Result<Vec<Bytes>> = opened.chunks.try_collect().await;
        let error = rest.expect_err(how);
        assert_eq!(error.kind(), Kind::Unavailable, "{how}");
        assert!(error.message().contains("was overwritten while it was read"), "{how}: {error}");
    }
}

#[tokio::test]
async fn puts_of_one_name_at_once_leave_one_whole_file() {
    let root = tempfile::tempdir().unwrap();
    let puts = (0..8_u8).map(|number| {
        let blobs = Local::new(root.path());
        tokio::spawn(async move { blobs.put("out", "receipt.json", Bytes::from(vec![number; 100_000])).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    let content = content(&Local::new(root.path()), "out", "receipt.json").await.unwrap().unwrap();
    assert!(content.len() == 100_000 && content.iter().all(|byte| *byte == content[0]));
    assert_eq!(fs::read_dir(root.path().join("out")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_put_that_fails_leaves_what_was_there_and_nothing_beside_it() {
    let (root, file, blobs) = root_with(b"before");
    let large = Bytes::from(vec![0; health_data_ai::blob::PUT_BYTES_MAX + 1]);
    assert_eq!(blobs.put("drop", "file.csv", large).await.unwrap_err().kind(), Kind::Invalid);
    // A folder cannot be replaced by a file.
    fs::create_dir_all(root.path().join("drop/folder/full")).unwrap();
    let error = blobs.put("drop", "folder", Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("a file in drop cannot be written"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"before");
    assert_eq!(fs::read_dir(root.path().join("drop")).unwrap().count(), 2);
}
