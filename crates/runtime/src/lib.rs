//! fieldtune: fine-tune a pretrained network on the board that uses it.
//!
//! Walk: [`model`] finds a backbone's file and [`manifest`]; [`samples`] lists the
//! user's files, [`senses`] says of what kind they are; [`preprocess`] turns a picture into a
//! tensor, [`sound`] a recording, [`series`] a sensor's values ([`windows`] are parts of
//! long files), [`backbone`] into features,
//! [`cache`] keeps them ([`features`] does all that in parallel). [`candidates`] says
//! which recipes are worth trying, [`search`] cross-validates them, [`recipe`] trains
//! one on [`data`], with [`extras`] where asked for, [`head`] holds the result; [`tail`]
//! turns the backbone's own layers after the cut into layers that can be trained. [`curve`]
//! says what more samples would bring, [`unknowns`] when a sample is of no class, [`sets`]
//! which labels one is surely among, [`suspects`] which samples to look at, [`suggest`] which
//! to label next. [`session`] is
//! the whole job, [`growing`] the job once more with more samples, [`forecast`] says
//! beforehand what it will take, [`evaluation`] and [`report`] what came of it, [`export`]
//! makes an ONNX file of it.
//! [`device`] does it on a microcontroller at a serial port.
//! [`sandbox`] gives up what a process does not need, [`watch`] gives files that appear in a
//! folder their turn, [`collect`] takes samples from [`sources`], [`mqtt`] publishes what is
//! said, [`mod@bench`] measures this
//! machine, [`doctor`] says what would go wrong on it.
//! [`store`] is the one place that writes files, [`versions`] keeps the heads that were
//! replaced, [`signature`] says whose heads a board takes, [`error`] is the one error type.
//!
//! The arithmetic of training is in crate `fieldtune-core`, flags and printing in
//! `fieldtune-cli`. Only `backbone.rs` and its modules name tract.

#![forbid(unsafe_code)]

mod arena;
pub mod backbone;
mod basis;
pub mod bench;
mod beside;
pub mod budget;
pub mod cache;
pub mod candidates;
pub mod checkpoint;
pub mod collect;
pub mod curve;
pub mod data;
pub mod device;
pub mod doctor;
pub mod error;
pub mod evaluation;
pub mod export;
pub mod extras;
pub mod features;
pub mod forecast;
pub mod growing;
pub mod head;
pub mod inspect;
pub mod manifest;
pub mod model;
pub mod mqtt;
pub mod preprocess;
pub mod recipe;
pub mod report;
pub mod samples;
pub mod sandbox;
pub mod search;
pub mod senses;
pub mod series;
pub mod session;
pub mod sets;
pub mod signature;
pub mod sound;
pub mod sources;
pub mod store;
pub mod suggest;
pub mod suspects;
pub mod tail;
pub mod unknowns;
pub mod versions;
pub mod views;
pub mod watch;
mod whitening;
pub mod windows;

pub use fieldtune_core::adversary::{Middle, Rise};
pub use fieldtune_core::decay::Mode as DecayMode;
pub use fieldtune_core::head::CrossValidation;
pub use fieldtune_core::optimizer::Optimizer;
