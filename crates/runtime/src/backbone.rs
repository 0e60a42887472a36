//! The frozen network: an ONNX file, cut at a tensor, optimised and run sample by sample.
//! This file and its modules alone name tract; everything else sees slices and `Graph`.
//! Which cuts are worth taking is in `inspect.rs`, images to tensors in `preprocess.rs`.
//!
//! `onnx` reads a file, `check` and `limits` refuse what would take all memory, `side`
//! reads weights from other files, `pin` fixes the inputs, `rewrite` says old operators in
//! new ones, `analyse` infers shapes, and `blame` says which node is at fault where that
//! fails. `operators` computes in place of tract what this project computes faster.

mod analyse;
mod blame;
mod check;
mod direct;
pub(crate) mod export;
mod graph;
mod guard;
mod limits;
mod onnx;
mod operators;
mod outline;
mod pin;
mod rewrite;
mod side;
mod tail;
mod taps;
mod unpack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceModelExt;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Manifest};
use analyse::{Fault, Parsed, Trouble};
use direct::Direct;
#[cfg(test)]
pub(crate) use graph::GraphTensor;
use graph::without_batch;
pub(crate) use graph::{Graph, GraphNode, lone_tensors};
pub(crate) use guard::caught;
use guard::{MAX_REASON, bad, guarded, shortened};
use onnx::Document;
use pin::{Pinned, Wanted, pin};
pub(crate) use side::{digest, folder_of};
#[cfg(test)]
pub(crate) use tail::Details;
pub(crate) use tail::{Attribute, Constant};
use taps::copy_out;
pub(crate) use taps::{Take, Tap};

/// What decides the values of a feature vector. Two backbones with equal identities give
/// the same features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Short name for people.
    pub name: String,
    /// SHA-256 of the ONNX file; where it keeps weights in other files, of that digest and
    /// theirs.
    pub sha256: [u8; 32],
    /// Tensor where the network is cut; several with commas between them, each with
    /// `:mean` behind it where positions are averaged and `:classes` behind a classifier's
    /// scores.
    pub cut: String,
    /// Elements a sample at the cut.
    pub features: usize,
    /// Canonical text of the preprocessing.
    pub preprocessing: String,
}

/// A network from its input to the cut, optimised for batches of one. Shared by threads.
#[derive(Debug)]
pub struct Backbone {
    identity: Identity,
    shape: Vec<usize>,
    input: InputTensor,
    plan: Arc<TypedRunnableModel>,
    taps: Arc<[Tap]>,
    file: PathBuf,
}

/// The input as tract wants it: shape with the batch axis of 1, and element type.
#[derive(Clone, Debug)]
struct InputTensor {
    shape: Vec<usize>,
    element: DatumType,
}

impl Backbone {
    /// Reads an ONNX file from memory and prepares it up to the tensor `cut`, or up to
    /// several with commas between them, whose elements then stand one after the other in
    /// the feature vector. `:mean` behind a tensor takes each channel's mean over all
    /// positions; `:classes` behind the scores of the network's own classes takes their
    /// softmax p as 64 p^1.5. What the cut does not need is not looked at.
    ///
    /// Neither `bytes` nor the unoptimised network are kept. An input of 8-bit integers
    /// is accepted; [`Worker::run`] then rounds.
    ///
    /// # Errors
    /// `Usage` when the network has no tensor `cut`, or that has not the shape which its
    /// suffix asks for; `BadInput`, naming the file, when it
    /// is damaged, keeps weights in other files, contradicts the manifest's input, or uses
    /// what tract cannot run; then the node and the nearest cut before it are named.
    pub fn load(manifest: &Manifest, bytes: &[u8], cut: &str) -> Result<Self> {
        let file = Path::new(&manifest.file);
        Self::load_at(manifest, bytes, None, (file, None), cut, Operators::Own)
    }

    /// As [`Backbone::load`] with tract's operators only: for tests and benches that compare.
    ///
    /// # Errors
    /// As [`Backbone::load`].
    #[doc(hidden)]
    pub fn load_plain(manifest: &Manifest, bytes: &[u8], cut: &str) -> Result<Self> {
        let file = Path::new(&manifest.file);
        Self::load_at(manifest, bytes, None, (file, None), cut, Operators::Tract)
    }

    /// As [`Backbone::load`], of the file at `path`, whose bytes are `bytes`. Weights may be
    /// in files below its folder.
    ///
    /// # Errors
    /// As [`Backbone::load`]; `BadInput` when such a file is missing, too short, or outside
    /// the folder.
    pub fn load_beside(manifest: &Manifest, bytes: &[u8], path: &Path, cut: &str) -> Result<Self> {
        let place = (path, folder_of(path));
        Self::load_at(manifest, bytes, None, place, cut, Operators::Own)
    }

    /// As [`Backbone::load`], of bytes that are part of the program, and whose SHA-256 is
    /// known. What can be is read from them in place.
    ///
    /// # Errors
    /// As [`Backbone::load`].
    pub(crate) fn load_known(
        manifest: &Manifest,
        bytes: &'static [u8],
        sha256: [u8; 32],
        cut: &str,
    ) -> Result<Self> {
        let place = (Path::new(&manifest.file), None);
        let known = Some(Known { bytes, sha256 });
        Self::load_at(manifest, bytes, known, place, cut, Operators::Own)
    }

    fn load_at(
        manifest: &Manifest,
        bytes: &[u8],
        known: Option<Known>,
        (file, folder): (&Path, Option<&Path>),
        cut: &str,
        operators: Operators,
    ) -> Result<Self> {
        let source = Source {
            bytes,
            file,
            folder,
            operators,
            wanted: Wanted {
                input: Some(&manifest.input),
                fixed: &manifest.fixed_inputs,
            },
        };
        let prepared = guarded(file, || match &known {
            Some(known) => source.prepared_in_place(known.bytes, cut),
            None => source.prepared(cut),
        })?;
        let identity = Identity {
            name: manifest.name.clone(),
            sha256: known.map_or_else(|| digest(bytes, file), |known| Ok(known.sha256))?,
            cut: cut.to_string(),
            features: prepared
                .shapes
                .iter()
                .map(|shape| shape.iter().product::<usize>())
                .sum(),
            preprocessing: manifest.identity(),
        };
        let shape = match prepared.shapes.as_slice() {
            [shape] => shape.clone(),
            _ => vec![identity.features],
        };
        Ok(Self {
            identity,
            shape,
            input: prepared.input,
            plan: prepared.plan,
            taps: prepared.taps.into(),
            file: file.into(),
        })
    }

    /// What decides the features' values.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Elements a sample at the cut.
    pub fn features(&self) -> usize {
        self.identity.features
    }

    /// Shape of the cut tensor without the batch axis; of several tensors, their elements.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements a sample of the input.
    pub fn input_elements(&self) -> usize {
        self.input.shape.iter().product()
    }

    /// A runner with its own buffers; one a thread.
    ///
    /// # Errors
    /// `BadInput` when tract cannot set up the network's state.
    pub fn worker(&self) -> Result<Worker> {
        guarded(&self.file, || {
            let state = self.plan.spawn().map_err(failure(&self.file))?;
            Ok(Worker {
                state,
                buffer: self.input.buffer(&self.file)?,
                input: self.input.clone(),
                taps: Arc::clone(&self.taps),
                features: self.features(),
                file: self.file.clone(),
            })
        })
    }
}

/// Runs a [`Backbone`] on one thread.
#[derive(Debug)]
pub struct Worker {
    state: TypedSimpleState,
    /// Kept between runs, so that a run allocates no input.
    buffer: Arc<Tensor>,
    input: InputTensor,
    taps: Arc<[Tap]>,
    features: usize,
    file: PathBuf,
}

impl Worker {
    /// One sample: `input` in the manifest's layout, `features` receives the cut tensor,
    /// row-major. Integer tensors are converted from and to f32 by value.
    ///
    /// # Errors
    /// `Failed` when a slice has the wrong length, `BadInput` when the network fails.
    /// The worker stays usable.
    pub fn run(&mut self, input: &[f32], features: &mut [f32]) -> Result<()> {
        let wanted: usize = self.input.shape.iter().product();
        for (what, found, wanted) in [
            ("input", input.len(), wanted),
            ("features", features.len(), self.features),
        ] {
            if found != wanted {
                let what = format_args!("{what} has {found} elements, needs {wanted}");
                return Err(Error::new(ErrorKind::Failed, what));
            }
        }
        let file = self.file.clone();
        let outcome = guarded(&file, || self.run_checked(input, features));
        if outcome.is_err() {
            // A run that stopped half-way leaves values behind.
            let plan = Arc::clone(self.state.plan());
            self.state = guarded(&file, || plan.spawn().map_err(failure(&file)))?;
        }
        outcome
    }

    fn run_checked(&mut self, input: &[f32], features: &mut [f32]) -> Result<()> {
        let failed = failure(&self.file);
        if Arc::get_mut(&mut self.buffer).is_none() {
            self.buffer = self.input.buffer(&self.file)?;
        }
        if let Some(tensor) = Arc::get_mut(&mut self.buffer) {
            fill(tensor, input).map_err(&failed)?;
        }
        let value = TValue::from_const(Arc::clone(&self.buffer));
        let outputs = self.state.run(tvec!(value)).map_err(&failed)?;
        copy_out(&outputs, &self.taps, features).map_err(&failed)
    }
}

impl InputTensor {
    fn buffer(&self, file: &Path) -> Result<Arc<Tensor>> {
        let tensor = Tensor::zero_dt(self.element, &self.shape).map_err(failure(file))?;
        Ok(Arc::new(tensor))
    }
}

fn fill(tensor: &mut Tensor, input: &[f32]) -> TractResult<()> {
    if tensor.datum_type() == f32::datum_type() {
        let mut view = tensor.try_as_plain_ram_mut()?;
        view.as_slice_mut::<f32>()?.copy_from_slice(input);
        return Ok(());
    }
    // Casts saturate but cut off the fraction, which would shift every value down.
    let rounded: Vec<f32> = if tensor.datum_type().is_integer() {
        input.iter().map(|value| value.round()).collect()
    } else {
        input.to_vec()
    };
    let source = Tensor::from_shape(tensor.shape(), &rounded)?;
    *tensor = source.cast_to_dt(tensor.datum_type())?.into_owned();
    Ok(())
}

/// A network ready to run.
struct Prepared {
    plan: Arc<TypedRunnableModel>,
    input: InputTensor,
    taps: Vec<Tap>,
    /// Of the cut tensors' features, without the batch axis.
    shapes: Vec<Vec<usize>>,
}

/// An ONNX file and what is said about it.
#[derive(Clone, Copy)]
struct Source<'a> {
    bytes: &'a [u8],
    file: &'a Path,
    /// Where weights in other files are.
    folder: Option<&'a Path>,
    wanted: Wanted<'a>,
    operators: Operators,
}

/// A file that is part of the program.
struct Known {
    bytes: &'static [u8],
    sha256: [u8; 32],
}

/// Who computes.
#[derive(Clone, Copy, PartialEq)]
enum Operators {
    /// `operators.rs` where it can, else tract.
    Own,
    /// tract everywhere.
    Tract,
}

impl Source<'_> {
    /// As [`Source::prepared`], where the file is part of the program.
    fn prepared_in_place(&self, bytes: &'static [u8], cut: &str) -> Result<Prepared> {
        let direct = self
            .direct(bytes, cut)
            .and_then(|Direct { model, taps, shape }| self.planned(model, &taps, shape).ok());
        direct.map_or_else(|| self.prepared(cut), Ok)
    }

    /// The network up to `cut`, one tensor or several.
    fn prepared(&self, cut: &str) -> Result<Prepared> {
        let whole = Document::read(self.bytes, self.file)?;
        let taps = whole.taps(cut)?;
        match self.attempt(whole, &taps) {
            Ok(prepared) => Ok(prepared),
            Err(Trouble::Said(error)) => Err(error),
            Err(Trouble::Fault(fault)) => Err(self.explained(&taps, &fault)?),
        }
    }

    /// The whole file reduced to what `taps` need, with its inputs fixed.
    fn reduced(&self, mut document: Document, taps: &[Tap]) -> Result<(Document, Pinned)> {
        let tensors: Vec<String> = taps.iter().map(|tap| tap.tensor.clone()).collect();
        document.keep_only(&tensors)?;
        side::read(&mut document, self.folder)?;
        let pinned = pin(&mut document, self.wanted)?;
        rewrite::rewrite(&mut document);
        Ok((document, pinned))
    }

    fn attempt(&self, whole: Document, taps: &[Tap]) -> std::result::Result<Prepared, Trouble> {
        let (mut document, pinned) = self.reduced(whole, taps)?;
        rewrite::spell_out_quantisers(&mut document);
        let shape = pinned.shape.clone();
        let mut parsed = Parsed::new(document, pinned, None)?;
        parsed.analyse(None)?;
        let model = parsed.model;
        let work = || -> TractResult<TypedModel> {
            let model = model.into_typed()?.into_decluttered()?;
            let mut model = unpack::unpack(model)?;
            if self.operators == Operators::Own {
                model = operators::replace(model)?;
            }
            model.optimize()?;
            Ok(model)
        };
        let model = caught(work).map_err(unplaced)?.map_err(Fault::unplaced)?;
        self.planned(model, taps, shape)
    }

    /// An optimised network, ready to run on an input of this shape.
    fn planned(
        &self,
        model: TypedModel,
        taps: &[Tap],
        shape: Vec<usize>,
    ) -> std::result::Result<Prepared, Trouble> {
        let shapes = cut_shapes(&model, taps, self.file)?;
        let input = model.input_fact(0).map_err(Fault::unplaced)?.datum_type;
        let input = InputTensor {
            shape,
            element: input,
        };
        let plan = caught(|| model.into_runnable())
            .map_err(unplaced)?
            .map_err(Fault::unplaced)?;
        Ok(Prepared {
            plan,
            input,
            taps: taps.to_vec(),
            shapes,
        })
    }

    /// The error about a fault before `taps`.
    fn explained(&self, taps: &[Tap], fault: &Fault) -> Result<Error> {
        let whole = || Document::read(self.bytes, self.file);
        let (document, pinned) = self.reduced(whole()?, taps)?;
        let nodes = document.nodes();
        drop(document);
        let works = |tensor: &str| {
            let taps = [Tap::whole(tensor)];
            let attempt = caught(|| whole().is_ok_and(|it| self.attempt(it, &taps).is_ok()));
            attempt.unwrap_or(false)
        };
        // Of several tensors each is needed for itself, so no node stands between.
        let output = taps.last().map_or("", |tap| tap.tensor.as_str());
        Ok(blame::explained(
            self.file,
            fault,
            &nodes,
            &pinned.name,
            output,
            &works,
        ))
    }
}

/// A panic about the network as a whole.
fn unplaced(reason: String) -> Trouble {
    let tensor = None;
    Trouble::Fault(Fault { tensor, reason })
}

/// Shapes of the outputs' features without their batch axes.
fn cut_shapes(
    model: &TypedModel,
    taps: &[Tap],
    file: &Path,
) -> std::result::Result<Vec<Vec<usize>>, Trouble> {
    let mut shapes = Vec::new();
    for (index, tap) in taps.iter().enumerate() {
        let wrong = |what: &str| {
            let what = format_args!("tensor \"{}\" {what}", shortened(&tap.tensor, 80));
            Trouble::from(bad(
                file,
                what,
                "choose another cut with `fieldtune inspect`",
            ))
        };
        let fact = model.output_fact(index).map_err(Fault::unplaced)?;
        if fact.konst.is_some() {
            return Err(wrong("does not depend on the input"));
        }
        if !fact.datum_type.is_number() {
            return Err(wrong("holds no numbers"));
        }
        let shape = fact.shape.as_concrete();
        let shape = without_batch(shape.ok_or_else(|| wrong("has no fixed shape"))?);
        if shape.iter().product::<usize>() == 0 {
            return Err(wrong("is empty"));
        }
        let shape = tap.shape(shape).ok_or_else(|| not_so_shaped(file, tap))?;
        shapes.push(shape.to_vec());
    }
    Ok(shapes)
}

/// The error about a suffix that asks for what the tensor has not.
pub(crate) fn not_so_shaped(file: &Path, tap: &Tap) -> Error {
    let name = shortened(&tap.tensor, 80);
    let lacks = match tap.take {
        Take::Classes => "is not one score a class",
        Take::Mean | Take::Whole => "has no positions to take the mean over",
    };
    let what = format_args!("tensor \"{name}\" {lacks}");
    let remedy = format_args!("name it without \"{}\"", tap.take.suffix());
    Error::at(ErrorKind::Usage, file, what, remedy)
}

/// A node of a network that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// How messages name the node, in quotes.
    pub node: String,
    /// ONNX operator.
    pub operator: String,
    /// In tract's words.
    pub reason: String,
}

/// What is looked for in an ONNX file.
pub(crate) struct Question<'a> {
    /// The file's content.
    pub bytes: &'a [u8],
    /// Its path: for messages, and to find weights beside it.
    pub file: &'a Path,
    /// The input that takes the sample; without it the file must declare its size.
    pub input: Option<&'a Input>,
    /// Values of the other inputs.
    pub fixed: &'a BTreeMap<String, f32>,
    /// Where the network ends; its first output if it is not named.
    pub output: Option<&'a str>,
    /// A cut that must exist.
    pub cut: Option<&'a str>,
}

/// What was found in an ONNX file.
pub(crate) struct Answer {
    pub graph: Graph,
    /// What depends on these has no shape.
    pub broken: Vec<Broken>,
    /// Names of all outputs.
    pub outputs: Vec<String>,
    /// The tensors of the cut that was asked for.
    pub cut: Vec<Tap>,
}

/// Reads the graph of an ONNX file.
///
/// # Errors
/// As [`Backbone::load_beside`], but broken nodes are no error.
pub(crate) fn graph(question: &Question<'_>) -> Result<Answer> {
    let file = question.file;
    let source = Source {
        bytes: question.bytes,
        file,
        folder: folder_of(file),
        operators: Operators::Tract,
        wanted: Wanted {
            input: question.input,
            fixed: question.fixed,
        },
    };
    guarded(file, || {
        let whole = Document::read(question.bytes, file)?;
        let (outputs, output) = (whole.outputs(), whole.output(question.output)?);
        let cut = question.cut.map(|cut| whole.taps(cut)).transpose()?;
        let (document, pinned) = source.reduced(whole, &[Tap::whole(&output)])?;
        let nodes = document.nodes();
        let mut faults = Vec::new();
        let graph = described(document, pinned, &output, &mut faults);
        let graph = graph.map_err(|trouble| match trouble {
            Trouble::Said(error) => error,
            Trouble::Fault(fault) => unusable(file, &fault.reason),
        })?;
        let broken = |node: &GraphNode| {
            let first = node.outputs.first();
            let fault = faults.iter().find(|fault| fault.tensor.as_ref() == first)?;
            Some(Broken {
                node: node.name.clone(),
                operator: node.operator.clone(),
                reason: fault.reason.clone(),
            })
        };
        Ok(Answer {
            broken: nodes.iter().filter_map(broken).collect(),
            graph,
            outputs,
            cut: cut.unwrap_or_default(),
        })
    })
}

fn described(
    document: Document,
    pinned: Pinned,
    output: &str,
    faults: &mut Vec<Fault>,
) -> std::result::Result<Graph, Trouble> {
    let mut parsed = Parsed::new(document, pinned, Some(faults))?;
    parsed.analyse(Some(faults))?;
    parsed.describe(output).map_err(Fault::unplaced)
}

/// The error about a file that tract cannot use, for `reason`.
fn unusable(file: &Path, reason: &dyn std::fmt::Display) -> Error {
    let what = format_args!("is not a network that can be run here ({reason})");
    let remedy = "check the file, cut before that place, or export the network again";
    bad(file, what, remedy)
}

/// Turns tract's error into one line about the file.
fn failure(file: &Path) -> impl Fn(TractError) -> Error + '_ {
    move |error| unusable(file, &shortened(&format!("{error:#}"), MAX_REASON))
}
