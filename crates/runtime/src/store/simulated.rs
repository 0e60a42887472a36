//! A disk in memory that loses power, fills up and fails when told to, for tests: what the
//! store promises is tried after every single change. No test itself is here.
//!
//! The model, after littlefs's power-loss tests and ALICE (Pillai et al., OSDI 2014):
//! - Written bytes last when their file is synchronised. Before, any sector of 64 bytes may
//!   hold the old bytes, the new ones, zeros or anything, and the length may be any.
//! - Names last when their folder is synchronised. Before, every subset of the changes may
//!   have reached the medium, whatever their order.
//! - A rename happens at once or not at all. A file system without that (FAT) is not modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Access, Disk, Entry, SUFFIX, Temporary};
use super::{Store, folder_of};

/// Bytes that reach the medium together.
const SECTOR_BYTES: usize = 64;
/// Pending changes of names up to which every subset is tried.
const MAX_EXHAUSTIVE: usize = 8;

/// What an operation can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC on whatever takes space.
    NoSpace,
    /// EIO on any operation.
    InputOutput,
    /// EINTR on a read or a write; the system retries other calls itself.
    Interrupted,
    /// EROFS on every change.
    ReadOnly,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

/// A change of names that may not have reached the medium.
#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Node),
    Rename(PathBuf, PathBuf, Node),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    lasting: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, Node>,
    lasting: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
    /// Temporary files whose writer lives.
    open: BTreeSet<PathBuf>,
    operations: usize,
    changes: usize,
    cut_after: Option<usize>,
    fault: Option<(usize, Fault, bool)>,
    largest_transfer: Option<usize>,
    made: usize,
}

/// Kinds of operation, for the faults that hit only some.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Look,
    Read,
    Write,
    /// A change that takes space.
    Grow,
    /// A change that takes none.
    Change,
}

impl Simulated {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store on this disk.
    pub fn store(&self) -> Store {
        Store::on(Arc::new(self.clone()))
    }

    /// Operations so far, readings included.
    pub fn operations(&self) -> usize {
        self.state().operations
    }

    /// Changes so far: files made, written, synchronised, renamed, removed.
    pub fn changes(&self) -> usize {
        self.state().changes
    }

    /// Cuts the power after so many more changes: then every operation fails.
    pub fn cut_after(&self, changes: usize) {
        let mut state = self.state();
        state.cut_after = Some(state.changes + changes);
    }

    /// Lets the operation that comes after `after` more fail, if the fault is one of its
    /// kind; or, `lasting`, all from there on.
    pub fn fail(&self, after: usize, fault: Fault, lasting: bool) {
        let mut state = self.state();
        state.fault = Some((state.operations + after, fault, lasting));
    }

    /// Ends a fault.
    pub fn mend(&self) {
        self.state().fault = None;
    }

    /// From now on a read or a write moves at most so many bytes.
    pub fn limit_transfer(&self, bytes: usize) {
        self.state().largest_transfer = Some(bytes.max(1));
    }

    /// All files with their bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let files = state.names.iter().filter_map(|(path, node)| match node {
            Node::File(content) => Some((path.clone(), state.contents[*content].now.clone())),
            Node::Folder => None,
        });
        files.collect()
    }

    /// Changes a file's bytes on the medium, as decay does.
    pub fn damage(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        if let Some(Node::File(content)) = state.names.get(path).copied() {
            damage(&mut state.contents[content].now);
            state.contents[content].lasting = state.contents[content].now.clone();
        }
    }

    /// The disks that a power cut now may leave: every subset of the pending changes of
    /// names (some of them, where there are too many), with unsynchronised bytes lost,
    /// kept, or torn in ways that `seed` draws.
    pub fn survivors(&self, seed: u64) -> Vec<Self> {
        let state = self.state();
        let pending = state.pending.len();
        let masks: Vec<u64> = if pending <= MAX_EXHAUSTIVE {
            (0..1 << pending).collect()
        } else {
            let mut random = Random(seed);
            (0..1 << MAX_EXHAUSTIVE).map(|_| random.next()).collect()
        };
        let dirty = state.contents.iter().any(|it| it.now != it.lasting);
        let mut found = Vec::new();
        for (index, mask) in masks.into_iter().enumerate() {
            let tears: &[Tear] = if dirty {
                &[Tear::Lost, Tear::Kept, Tear::Zeros, Tear::Half, Tear::Drawn]
            } else {
                &[Tear::Kept]
            };
            for tear in tears {
                let mut random = Random(seed ^ ((index as u64) << 32));
                found.push(state.survivor(mask, *tear, &mut random));
            }
        }
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self, path: &Path) -> io::Result<(usize, usize)> {
        let state = self.state();
        match state.names.get(path) {
            Some(Node::File(content)) => Ok((*content, state.contents[*content].now.len())),
            Some(Node::Folder) => Err(IoKind::IsADirectory.into()),
            None => Err(IoKind::NotFound.into()),
        }
    }
}

/// What becomes of bytes that were not synchronised.
#[derive(Clone, Copy, Debug)]
enum Tear {
    Lost,
    Kept,
    Zeros,
    Half,
    Drawn,
}

impl Tear {
    fn of(self, content: &Content, random: &mut Random) -> Vec<u8> {
        let (now, lasting) = (&content.now, &content.lasting);
        match self {
            Self::Lost => lasting.clone(),
            Self::Kept => now.clone(),
            // The length reached the medium, the bytes did not.
            Self::Zeros => vec![0; now.len()],
            Self::Half => now[..now.len() / 2].to_vec(),
            Self::Drawn => {
                let length = random.below(now.len().max(lasting.len()) + 1);
                let mut bytes = vec![0; length];
                for (sector, chunk) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
                    let start = sector * SECTOR_BYTES;
                    let source = [lasting, now, now][random.below(3)];
                    for (place, byte) in chunk.iter_mut().enumerate() {
                        *byte = source.get(start + place).copied().unwrap_or(0xff);
                    }
                }
                bytes
            }
        }
    }
}

impl State {
    /// Counts an operation, and fails it if it is its turn.
    fn step(&mut self, operation: Operation) -> io::Result<()> {
        use Operation::{Change, Grow, Read, Write};
        let number = self.operations;
        self.operations += 1;
        let changes = matches!(operation, Write | Grow | Change);
        if self.cut_after.is_some_and(|cut| self.changes >= cut) {
            return Err(io::Error::other("no power"));
        }
        if let Some((at, fault, lasting)) = self.fault
            && (number == at || (lasting && number > at))
        {
            let (hit, kind) = match fault {
                Fault::NoSpace => (matches!(operation, Write | Grow), IoKind::StorageFull),
                Fault::InputOutput => (true, IoKind::Other),
                Fault::Interrupted => (matches!(operation, Read | Write), IoKind::Interrupted),
                Fault::ReadOnly => (changes, IoKind::ReadOnlyFilesystem),
            };
            if hit {
                return Err(io::Error::new(kind, "input/output error"));
            }
        }
        self.changes += usize::from(changes);
        Ok(())
    }

    fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        let parent = folder_of(path);
        match self.names.get(&parent) {
            _ if is_root(&parent) => Ok(()),
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(IoKind::NotADirectory.into()),
            None => Err(IoKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn survivor(&self, mask: u64, tear: Tear, random: &mut Random) -> Simulated {
        let mut names = self.lasting.clone();
        for (place, change) in self.pending.iter().enumerate() {
            if mask >> (place % 64) & 1 == 1 {
                apply(&mut names, change);
            }
        }
        // What lies in a folder that is gone is gone.
        let all = names.clone();
        names.retain(|path, _| {
            let mut parents = path.ancestors().skip(1);
            parents.all(|parent| is_root(parent) || all.get(parent) == Some(&Node::Folder))
        });
        let contents = self.contents.iter().map(|content| {
            let bytes = tear.of(content, random);
            let bytes = if content.now == content.lasting {
                content.now.clone()
            } else {
                bytes
            };
            Content {
                now: bytes.clone(),
                lasting: bytes,
            }
        });
        Simulated(Arc::new(Mutex::new(Self {
            contents: contents.collect(),
            lasting: names.clone(),
            names,
            largest_transfer: self.largest_transfer,
            made: self.made,
            ..Self::default()
        })))
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/") || path == Path::new(".")
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Put(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Rename(from, to, node) => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
    }
}

impl Disk for Simulated {
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        self.state().step(Operation::Look)?;
        if is_root(path) {
            return Ok(Entry::Folder);
        }
        match self.copy(path) {
            Ok((_, length)) => Ok(Entry::File(length as u64)),
            Err(error) if error.kind() == IoKind::IsADirectory => Ok(Entry::Folder),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        self.state().step(Operation::Look)?;
        let (content, _) = self.copy(path)?;
        Ok(Box::new(Reading {
            disk: self.clone(),
            content,
            place: 0,
        }))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.state();
        state.step(Operation::Look)?;
        if !is_root(folder) && state.names.get(folder) != Some(&Node::Folder) {
            return Err(IoKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| folder_of(path) == folder);
        Ok(inside
            .filter_map(|path| path.file_name().map(OsStr::to_os_string))
            .collect())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step(Operation::Grow)?;
        state.parent_is_there(path)?;
        if !state.names.contains_key(path) {
            state.change(Change::Put(path.to_path_buf(), Node::Folder));
        }
        Ok(())
    }

    fn temporary(
        &self,
        folder: &Path,
        prefix: &OsStr,
        _access: Access,
    ) -> io::Result<Box<dyn Temporary>> {
        let mut state = self.state();
        state.step(Operation::Grow)?;
        state.made += 1;
        let mut name = prefix.to_os_string();
        name.push(format!("{}{SUFFIX}", state.made));
        let path = folder.join(name);
        state.parent_is_there(&path)?;
        let content = state.contents.len();
        state.contents.push(Content::default());
        state.change(Change::Put(path.clone(), Node::File(content)));
        state.open.insert(path.clone());
        Ok(Box::new(Writing {
            disk: self.clone(),
            content,
            path,
        }))
    }

    fn remove_abandoned(&self, path: &Path) -> io::Result<()> {
        let lives = self.state().open.contains(path);
        if lives { Ok(()) } else { self.remove(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step(Operation::Change)?;
        let Some(node) = state.names.get(from).copied() else {
            return Err(IoKind::NotFound.into());
        };
        state.change(Change::Rename(from.to_path_buf(), to.to_path_buf(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step(Operation::Change)?;
        if !state.names.contains_key(path) {
            return Err(IoKind::NotFound.into());
        }
        state.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step(Operation::Change)?;
        if state.names.get(path) != Some(&Node::Folder) {
            return Err(IoKind::NotFound.into());
        }
        if state.names.keys().any(|inside| folder_of(inside) == path) {
            return Err(IoKind::DirectoryNotEmpty.into());
        }
        state.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step(Operation::Change)?;
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            let path = match &change {
                Change::Put(path, _) | Change::Remove(path) | Change::Rename(_, path, _) => path,
            };
            if folder_of(path) == folder {
                apply(&mut state.lasting, &change);
            } else {
                state.pending.push(change);
            }
        }
        Ok(())
    }
}

struct Reading {
    disk: Simulated,
    content: usize,
    place: usize,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.step(Operation::Read)?;
        let bytes = &state.contents[self.content].now;
        let rest = bytes.get(self.place..).unwrap_or_default();
        let most = state.largest_transfer.unwrap_or(usize::MAX);
        let count = rest.len().min(buffer.len()).min(most);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.place += count;
        Ok(count)
    }
}

struct Writing {
    disk: Simulated,
    content: usize,
    path: PathBuf,
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.step(Operation::Write)?;
        let count = bytes
            .len()
            .min(state.largest_transfer.unwrap_or(usize::MAX));
        state.contents[self.content]
            .now
            .extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Temporary for Writing {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step(Operation::Change)?;
        let content = &mut state.contents[self.content];
        content.lasting = content.now.clone();
        Ok(())
    }

    fn persist(self: Box<Self>, path: &Path) -> io::Result<()> {
        self.disk.rename(&self.path, path)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // After `persist` there is nothing to remove; after a power cut nothing can be.
        let there = self.disk.state().names.contains_key(&self.path);
        if there {
            let _ = self.disk.remove(&self.path);
        }
        self.disk.state().open.remove(&self.path);
    }
}

/// Sebastiano Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
