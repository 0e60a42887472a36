//! The pretrained layers after a cut, as layers of the engine: what `--head tail` trains.
//! `tail/import.rs` walks the graph, `tail/operators.rs` says which layer an ONNX operator
//! is, `tail/weights.rs` reads the numbers. Training is in `recipe.rs`.
//!
//! The engine's layers are a chain with branches and additions of two paths, so that is
//! what a tail must be. The network's own classifier at the end is kept apart: it is replaced by one for
//! the user's classes.

mod import;
mod operators;
pub(crate) mod training;
mod weights;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use fieldtune_core::network::{Layer, Network};

use crate::backbone::{self, GraphNode, Question};
use crate::error::{Error, ErrorKind, Result};
use crate::inspect;
use crate::manifest::Manifest;
pub(crate) use import::draft;
use serde::{Serialize, Serializer};

/// Why a tail cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Operator and name of the node; `None` when it is none alone.
    node: Option<(String, String)>,
    reason: String,
}

impl Refusal {
    fn of(node: &GraphNode, reason: impl Into<String>) -> Self {
        Self {
            node: Some((node.operator.clone(), node.details.name.clone())),
            reason: reason.into(),
        }
    }

    fn of_all(reason: impl Into<String>) -> Self {
        Self {
            node: None,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some((operator, name)) => write!(f, "{operator} (\"{name}\") {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// The layers after a cut with their pretrained weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    cut: String,
    /// The first says the input's shape.
    layers: Vec<Layer>,
    parameters: Vec<f32>,
    /// Where the network's own classifier begins.
    classifier: usize,
}

/// A tail that recipes share.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained(Arc<Tail>);

impl Pretrained {
    /// To be shared.
    pub fn new(tail: Tail) -> Self {
        Self(Arc::new(tail))
    }
}

impl std::ops::Deref for Pretrained {
    type Target = Tail;

    fn deref(&self) -> &Tail {
        &self.0
    }
}

// Its numbers are finite, so it equals itself.
impl Eq for Pretrained {}

impl Hash for Pretrained {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cut.hash(state);
    }
}

/// As the name of its cut.
impl Serialize for Pretrained {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.cut)
    }
}

impl Tail {
    /// Reads the layers after the tensor `cut` of an ONNX file.
    ///
    /// # Errors
    /// `BadInput` when the file cannot be used at all; `Usage`, naming the node, its
    /// operator and the nearest later cut that works, when the engine has no such layer or
    /// nothing is left to train.
    pub fn import(manifest: &Manifest, bytes: &[u8], cut: &str) -> Result<Self> {
        Self::import_beside(manifest, bytes, Path::new(&manifest.file), cut)
    }

    /// The same for a file at `file`, which may have weights in side files beside it.
    ///
    /// # Errors
    /// As [`Tail::import`].
    pub fn import_beside(
        manifest: &Manifest,
        bytes: &[u8],
        file: &Path,
        cut: &str,
    ) -> Result<Self> {
        let graph = backbone::graph(&Question {
            bytes,
            file,
            input: Some(&manifest.input),
            fixed: &manifest.fixed_inputs,
            output: None,
            cut: None,
        })?
        .graph;
        let refused = |refusal: Refusal| {
            let what = format_args!("the layers after \"{cut}\" cannot be trained: {refusal}");
            let cuts = inspect::survey(&graph).cuts;
            let later = cuts.iter().skip_while(|other| other.tensor != cut).skip(1);
            let remedy = match later.clone().find(|other| other.trainable) {
                Some(other) => format!("the nearest later cut that works is \"{}\"", other.tensor),
                None => "train another head, such as --head linear".into(),
            };
            Error::at(ErrorKind::Usage, file, what, remedy)
        };
        if !graph.tensors.contains_key(cut) {
            let what = format_args!("has no tensor \"{cut}\"");
            let remedy = "list the cuts with `fieldtune inspect`";
            return Err(Error::at(ErrorKind::Usage, file, what, remedy));
        }
        let draft = draft(&graph, cut).map_err(refused)?;
        draft.read(cut).map_err(refused)
    }

    /// The tensor after which it stands.
    pub fn cut(&self) -> &str {
        &self.cut
    }

    /// The layers up to the network's own classifier, the shape of the input first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers[..self.classifier]
    }

    /// Their parameters, as [`Network::weights`] lays them out.
    pub fn parameters(&self) -> &[f32] {
        let elements = self
            .table(self.classifier)
            .map(|table| table.parameter_elements());
        &self.parameters[..elements.unwrap_or(0)]
    }

    /// Elements of the features that the classifier reads.
    pub fn feature_elements(&self) -> usize {
        self.body().map_or(0, |(network, _)| network.classes())
    }

    /// Size of all parameters, those of the network's own classifier included.
    pub fn parameter_bytes(&self) -> usize {
        self.parameters.len() * size_of::<f32>()
    }

    /// The whole tail with the network's own classifier: its outputs are those of the ONNX
    /// file before any softmax.
    ///
    /// # Errors
    /// None: it was tried when the tail was read.
    pub fn whole(&self) -> Result<(Network, &[f32])> {
        Ok((self.table(self.layers.len())?, &self.parameters))
    }

    /// The tail without the classifier: its outputs are the features that the classifier
    /// reads.
    ///
    /// # Errors
    /// None: it was tried when the tail was read.
    pub fn body(&self) -> Result<(Network, &[f32])> {
        Ok((self.table(self.classifier)?, self.parameters()))
    }

    /// The first `count` layers as a table of their own.
    fn table(&self, count: usize) -> Result<Network> {
        table(&self.layers[..count]).map_err(|error| Error::new(ErrorKind::Failed, error))
    }
}

/// A table of these layers; a map or a bent vector at the end is read as a plain one.
fn table(layers: &[Layer]) -> std::result::Result<Network, fieldtune_core::Error> {
    let mut layers = layers.to_vec();
    let ends_well = matches!(
        layers.last(),
        Some(Layer::Dense { .. } | Layer::GlobalAveragePool | Layer::Flatten)
    );
    if !ends_well {
        layers.push(Layer::Flatten);
    }
    Network::new(&layers)
}
