//! The commands on head files and their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands on head files.
#[derive(Debug, Subcommand)]
pub enum HeadCommand {
    /// Say what is in a head file
    #[command(after_help = "Example:\n  fieldtune head show birds.head")]
    Show {
        /// The head file
        head: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Put the head in place that training replaced; the present one is kept
    #[command(
        after_help = "Example:\n  fieldtune head rollback birds.head --list\n  fieldtune head rollback birds.head"
    )]
    Rollback(RollbackArgs),
    /// Make a key pair for signing heads: NAME.key, secret, and NAME.pub for the boards
    #[command(after_help = "Example:\n  fieldtune head keygen farm")]
    Keygen(KeygenArgs),
    /// Sign a head, so that boards that trust the key take it and no older one
    #[command(after_help = "Example:\n  fieldtune head sign birds.head --key farm.key")]
    Sign(SignArgs),
    /// Say whether a head is signed with a key; exit code 6 if not
    #[command(after_help = "Example:\n  fieldtune head verify birds.head --trust farm.pub")]
    Verify(VerifyArgs),
}

/// Flags of `head keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Name of the two files, without ending
    pub name: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `head sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The head file
    pub head: PathBuf,
    /// The secret key
    #[arg(long, value_name = "KEY.key")]
    pub key: PathBuf,
    /// Number of the signature, if higher than the key's next; boards refuse a head with a
    /// lower one than they saw
    #[arg(long, value_name = "N")]
    pub counter: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `head verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The head file
    pub head: PathBuf,
    /// The public key
    #[arg(long, value_name = "KEY.pub")]
    pub trust: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Flags of `head rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The head file
    pub head: PathBuf,
    /// The version to put in place [default: the one before]
    #[arg(long, value_name = "N", conflicts_with = "list")]
    pub to: Option<u64>,
    /// Only say which versions are kept, the newest first
    #[arg(long)]
    pub list: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
