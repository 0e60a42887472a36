//! The trainable head of fieldtune: what is learned on the board.
//!
//! Walk: features of a frozen backbone come in ([`transform`]), pass the layers
//! ([`network`], `layers/`), the loss compares them with the label ([`loss`]),
//! the gradients and the [`decay`] of each layer move the weights
//! ([`optimizer`]), features perturbed by the [`adversary`] are trained along
//! ([`train`]), and the result is written as one file ([`head`]).
//!
//! A microcontroller does all of that for a host at a serial line: [`link`] is what they
//! say, [`device`] what it does, [`sensor`] the features of windows that it can measure
//! itself, [`random_kernels`] more of them, of windows of any length.
//!
//! Nothing here allocates. The caller gives one arena, `&mut [f32]`, whose exact
//! size the memory [`plan`] computes from the layer table, the batch size and
//! the optimiser. Wrong shapes are found when the plan is built, not when
//! training runs.
//!
//! Not here: files, clocks, threads, images, ONNX (crate `fieldtune`), and
//! anything that names an instruction set (crate `fieldtune-kernels`).
//!
//! # Shapes
//! B batch, F features, H hidden units, K classes; all matrices row-major.
//! Inputs of a layer `[B, inputs]`, dense weights `[outputs, inputs]`, biases
//! `[outputs]`, logits `[B, K]`. Sizes count f32 elements unless a name says
//! `_bytes`.

#![no_std]
#![forbid(unsafe_code)]

pub mod adversary;
pub mod decay;
pub mod device;
mod error;
mod fit;
pub mod fold;
pub mod head;
mod layer;
mod layers;
pub mod link;
pub mod loss;
pub mod network;
pub mod optimizer;
mod pass;
pub mod plan;
pub mod predict;
pub mod prototype;
pub mod random;
pub mod random_kernels;
pub mod sensor;
pub mod sets;
pub mod structural;
mod tensors;
mod top;
pub mod train;
pub mod transform;
pub mod unknown;
mod update;

pub use error::Error;
pub use fieldtune_kernels::Kernel;
