//! Gives up what a process does not need before it looks at files of strangers: a defect in
//! a decoder then reaches what the sandbox holds and nothing else. Linux only: Landlock keeps
//! the process from other files, `no_new_privs` from programs that give more rights, and a
//! process of root becomes that of the one whose folder it looks at. Where the kernel lacks
//! one of these, the rest still holds, and [`Held`] says so.
//!
//! Each of these is of a thread and those that it starts, so they belong before the first.

use std::path::Path;

use crate::error::Result;

/// How much of what was asked for the system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    Wholly,
    /// What an older kernel can.
    Partly,
    /// Nothing: no Landlock here.
    NotAtAll,
}

/// What a process still has to reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs<'a> {
    /// Files and folders that are read; ones that are not there are left out.
    pub read: &'a [&'a Path],
    /// Folders in which files are written, made and removed.
    pub write: &'a [&'a Path],
    /// Whether everything else may be read too: links lead anywhere.
    pub read_all: bool,
    /// Whether the network is needed.
    pub network: bool,
}

/// Holds this thread, and those that it starts, to what they need.
///
/// # Errors
/// `Failed` when the system knows this and refuses.
pub fn confine(needs: Needs<'_>) -> Result<Held> {
    system::confine(needs)
}

/// Whether the system could hold a process to anything. Tried on a thread that ends.
pub fn possible() -> Held {
    let tried = std::thread::spawn(|| confine(Needs::default())).join();
    match tried {
        Ok(Ok(held)) => held,
        _ => Held::NotAtAll,
    }
}

/// Where this process is root's and `folder` is another's: becomes that one, user and group,
/// for good. Returns the user's number then.
///
/// # Errors
/// `Failed` when the system refuses.
pub fn become_owner_of(folder: &Path) -> Result<Option<u32>> {
    system::become_owner_of(folder)
}

#[cfg(target_os = "linux")]
mod system {
    use std::fmt::Display;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
        RulesetStatus, path_beneath_rules,
    };
    use rustix::process::{Gid, Uid};
    use rustix::thread;

    use super::{Held, Needs};
    use crate::error::{Error, ErrorKind, Result};

    /// The rights that are known here; older kernels know fewer.
    const RIGHTS: ABI = ABI::V5;

    pub fn confine(needs: Needs<'_>) -> Result<Held> {
        let refused = |error: &dyn Display| {
            let what = format_args!("the process cannot be confined ({error}); run again");
            Error::new(ErrorKind::Failed, what)
        };
        thread::set_no_new_privs(true).map_err(|error| refused(&error))?;
        let status = restrict(needs).map_err(|error| refused(&error))?;
        Ok(match status {
            RulesetStatus::FullyEnforced => Held::Wholly,
            RulesetStatus::PartiallyEnforced => Held::Partly,
            RulesetStatus::NotEnforced => Held::NotAtAll,
        })
    }

    fn restrict(needs: Needs<'_>) -> std::result::Result<RulesetStatus, RulesetError> {
        let held = match needs.read_all {
            true => AccessFs::from_write(RIGHTS),
            false => AccessFs::from_all(RIGHTS),
        };
        let readable = AccessFs::from_read(RIGHTS) & !AccessFs::Execute & held;
        let writable = (AccessFs::from_all(RIGHTS) & !AccessFs::Execute) & held;
        let mut ruleset = Ruleset::default().handle_access(held)?;
        if !needs.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(RIGHTS))?;
        }
        let ruleset = ruleset.create()?;
        let ruleset = match readable.is_empty() {
            true => ruleset,
            false => ruleset.add_rules(path_beneath_rules(needs.read, readable))?,
        };
        let ruleset = ruleset.add_rules(path_beneath_rules(needs.write, writable))?;
        Ok(ruleset.restrict_self()?.ruleset)
    }

    pub fn become_owner_of(folder: &Path) -> Result<Option<u32>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        // What cannot be looked at is said by who reads it.
        let Ok(metadata) = std::fs::metadata(folder) else {
            return Ok(None);
        };
        if metadata.uid() == 0 {
            return Ok(None);
        }
        let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        // Groups first: only root may change them.
        thread::set_thread_groups(&[])
            .and_then(|()| thread::set_thread_res_gid(group, group, group))
            .and_then(|()| thread::set_thread_res_uid(user, user, user))
            .map_err(|error| {
                let what = format_args!("cannot act as its owner, user {user:?} ({error})");
                let remedy = "start as that user, or keep root with --keep-root";
                Error::at(ErrorKind::Failed, folder, what, remedy)
            })?;
        Ok(Some(metadata.uid()))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    use super::{Held, Needs};
    use crate::error::Result;

    pub fn confine(_: Needs<'_>) -> Result<Held> {
        Ok(Held::NotAtAll)
    }

    pub fn become_owner_of(_: &Path) -> Result<Option<u32>> {
        Ok(None)
    }
}
