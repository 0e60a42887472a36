//! The frozen network: an ONNX file, cut at a tensor, optimised and run sample by sample.
//! The one file that names tract; everything else sees slices and `Graph`. Which cuts
//! are worth taking is in `inspect.rs`, images to tensors in `preprocess.rs`.

mod graph;
mod guard;
mod tail;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{DimLike, TractErrorContext, format_err};

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Input, Layout, Manifest};
pub(crate) use graph::{Graph, GraphNode, GraphTensor};
use graph::{elements, nearest, without_batch};
use guard::{MAX_REASON, guarded, shortened};
pub(crate) use tail::{Attribute, Constant, Details};

/// What decides the values of a feature vector. Two backbones with equal identities give
/// the same features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Short name for people.
    pub name: String,
    /// SHA-256 of the ONNX file.
    pub sha256: [u8; 32],
    /// Tensor where the network is cut.
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
    file: PathBuf,
}

/// The input as tract wants it: shape with the batch axis of 1, and element type.
#[derive(Clone, Debug)]
struct InputTensor {
    shape: Vec<usize>,
    element: DatumType,
}

impl Backbone {
    /// Reads an ONNX file from memory and prepares it up to the tensor `cut`.
    ///
    /// Neither `bytes` nor the unoptimised network are kept. An input of 8-bit integers
    /// is accepted; [`Worker::run`] then rounds.
    ///
    /// # Errors
    /// `Usage` when the network has no tensor `cut`; `BadInput`, naming the file, when it
    /// is damaged, uses what tract cannot run, or contradicts the manifest's input.
    pub fn load(manifest: &Manifest, bytes: &[u8], cut: &str) -> Result<Self> {
        let file = PathBuf::from(&manifest.file);
        let sha256 = Sha256::digest(bytes).into();
        let (plan, input, shape) = guarded(&file, || plan(manifest, bytes, cut, &file))?;
        let identity = Identity {
            name: manifest.name.clone(),
            sha256,
            cut: cut.to_string(),
            features: shape.iter().product(),
            preprocessing: manifest.preprocessing.identity(&manifest.input),
        };
        Ok(Self {
            identity,
            shape,
            input,
            plan,
            file,
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

    /// Shape of the cut tensor without the batch axis.
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
            let state = self.plan.spawn().map_err(unusable(&self.file, &[]))?;
            Ok(Worker {
                state,
                buffer: self.input.buffer(&self.file)?,
                input: self.input.clone(),
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
            self.state = guarded(&file, || plan.spawn().map_err(unusable(&file, &[])))?;
        }
        outcome
    }

    fn run_checked(&mut self, input: &[f32], features: &mut [f32]) -> Result<()> {
        let failed = unusable(&self.file, &[]);
        if Arc::get_mut(&mut self.buffer).is_none() {
            self.buffer = self.input.buffer(&self.file)?;
        }
        if let Some(tensor) = Arc::get_mut(&mut self.buffer) {
            fill(tensor, input).map_err(&failed)?;
        }
        let value = TValue::from_const(Arc::clone(&self.buffer));
        let outputs = self.state.run(tvec!(value)).map_err(&failed)?;
        copy_out(&outputs, features).map_err(&failed)
    }
}

impl InputTensor {
    fn buffer(&self, file: &Path) -> Result<Arc<Tensor>> {
        let tensor = Tensor::zero_dt(self.element, &self.shape).map_err(unusable(file, &[]))?;
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

fn copy_out(outputs: &[TValue], features: &mut [f32]) -> TractResult<()> {
    let output = outputs.first().context("the network gave no output")?;
    let output = output.cast_to::<f32>()?;
    let plain = output.try_as_plain_ram()?;
    let values = plain.as_slice::<f32>()?;
    if values.len() != features.len() {
        return Err(format_err!("the cut gave {} elements", values.len()));
    }
    features.copy_from_slice(values);
    Ok(())
}

type Plan = (Arc<TypedRunnableModel>, InputTensor, Vec<usize>);

fn plan(manifest: &Manifest, bytes: &[u8], cut: &str, file: &Path) -> Result<Plan> {
    let parsed = Parsed::new(bytes, file)?;
    let outlet = parsed.cut(cut, file)?;
    let failed = unusable(file, &parsed.unknown_operators);
    let mut model = parsed.model;
    let input = pin_input(
        &mut model,
        Some(&manifest.input),
        &manifest.input.tensor,
        file,
    )?;
    model.select_output_outlets(&[outlet]).map_err(&failed)?;
    // The tail goes before its weights are worked on.
    let mut model = model.into_compact().map_err(&failed)?;
    model.analyse(false).map_err(&failed)?;
    check_sizes(&model, file)?;
    let model = model.into_typed().map_err(&failed)?;
    let model = model.into_optimized().map_err(&failed)?;
    let shape = cut_shape(&model, cut, file)?;
    let plan = model.into_runnable().map_err(&failed)?;
    Ok((plan, input, shape))
}

/// Shape of the only output without its batch axis.
fn cut_shape(model: &TypedModel, cut: &str, file: &Path) -> Result<Vec<usize>> {
    let wrong = |what: &str| {
        let what = format_args!("tensor \"{cut}\" {what}");
        Error::at(
            ErrorKind::BadInput,
            file,
            what,
            "choose another cut with `fieldtune inspect`",
        )
    };
    let fact = model.output_fact(0).map_err(unusable(file, &[]))?;
    if fact.konst.is_some() {
        return Err(wrong("does not depend on the input"));
    }
    if !fact.datum_type.is_number() {
        return Err(wrong("holds no numbers"));
    }
    let shape = fact
        .shape
        .as_concrete()
        .ok_or_else(|| wrong("has no fixed shape"))?;
    let shape = without_batch(shape);
    match shape.iter().product::<usize>() {
        0 => Err(wrong("is empty")),
        _ => Ok(shape.to_vec()),
    }
}

/// An ONNX file read, nothing inferred yet.
struct Parsed {
    model: InferenceModel,
    /// Where each ONNX tensor name stands in `model`.
    outlets: HashMap<String, OutletId>,
    unknown_operators: Vec<String>,
    equations: HashMap<String, String>,
    operators: HashMap<usize, String>,
    details: HashMap<usize, Details>,
}

impl Parsed {
    fn new(bytes: &[u8], file: &Path) -> Result<Self> {
        let mut reader = bytes;
        // Both would contradict a batch of 1: many files carry a symbolic batch in every
        // shape. tract infers the shapes itself.
        let onnx = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .with_ignore_output_shapes(true);
        let proto = onnx.proto_model_for_read(&mut reader).map_err(|_| {
            let remedy = "copy it again, or export the network to ONNX";
            Error::at(
                ErrorKind::BadInput,
                file,
                "is damaged or not an ONNX file",
                remedy,
            )
        })?;
        let mut unknown_operators: Vec<String> = nodes(&proto)
            .map(|node| node.op_type.clone())
            .filter(|operator| !onnx.op_register.0.contains_key(operator))
            .collect();
        unknown_operators.sort();
        unknown_operators.dedup();
        let parsed = onnx
            .parse(&proto, None)
            .map_err(unusable(file, &unknown_operators))?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            let what = format_args!("uses the tensor \"{name}\", which nothing makes");
            return Err(Error::at(
                ErrorKind::BadInput,
                file,
                what,
                "export the network again",
            ));
        }
        Ok(Self {
            operators: operators(&proto, &parsed.outlets_by_name),
            details: tail::details(&proto, &parsed.outlets_by_name),
            equations: equations(&proto),
            model: parsed.model,
            outlets: parsed.outlets_by_name,
            unknown_operators,
        })
    }

    fn cut(&self, cut: &str, file: &Path) -> Result<OutletId> {
        if let Some(outlet) = self.outlets.get(cut) {
            return Ok(*outlet);
        }
        let produced = self
            .outlets
            .iter()
            .filter(|(_, outlet)| self.operators.contains_key(&outlet.node));
        let near = nearest(cut, produced.map(|(name, _)| name.as_str()));
        let what = format_args!("has no tensor \"{cut}\"; the nearest names are {near}");
        let remedy = format_args!("list the cuts with `fieldtune inspect {}`", file.display());
        Err(Error::at(ErrorKind::Usage, file, what, remedy))
    }
}

fn nodes(proto: &ModelProto) -> impl Iterator<Item = &tract_onnx::pb::NodeProto> {
    proto.graph.iter().flat_map(|graph| graph.node.iter())
}

/// ONNX operator by tract's node number.
fn operators(proto: &ModelProto, outlets: &HashMap<String, OutletId>) -> HashMap<usize, String> {
    let made = |node: &tract_onnx::pb::NodeProto| {
        let outlet = node.output.iter().find_map(|name| outlets.get(name))?;
        Some((outlet.node, node.op_type.clone()))
    };
    nodes(proto).filter_map(made).collect()
}

/// Equations of the `Einsum` nodes by the tensor they make.
fn equations(proto: &ModelProto) -> HashMap<String, String> {
    let einsum = |node: &tract_onnx::pb::NodeProto| {
        let equation = node
            .attribute
            .iter()
            .find(|attribute| attribute.name == "equation")?;
        let text = String::from_utf8_lossy(&equation.s).into_owned();
        Some((node.output.first()?.clone(), text))
    };
    nodes(proto).filter_map(einsum).collect()
}

/// Fixes the shape of the only input to a batch of 1.
fn pin_input(
    model: &mut InferenceModel,
    wanted: Option<&Input>,
    tensor: &str,
    file: &Path,
) -> Result<InputTensor> {
    let failed = unusable(file, &[]);
    let wrong = |what: String| {
        Error::at(
            ErrorKind::BadInput,
            file,
            what,
            "correct the manifest's `input` or the flags",
        )
    };
    let outlet = match model.input_outlets().map_err(&failed)? {
        [outlet] => *outlet,
        inputs => return Err(wrong(format!("has {} inputs, must have one", inputs.len()))),
    };
    let name = model.node(outlet.node).name.clone();
    if !tensor.is_empty() && tensor != name {
        return Err(wrong(format!(
            "has the input \"{name}\", the manifest says \"{tensor}\""
        )));
    }
    let declared = model.outlet_fact(outlet).map_err(&failed)?;
    let element = declared
        .datum_type
        .concretize()
        .unwrap_or(f32::datum_type());
    if !element.is_number() {
        return Err(wrong(format!(
            "has an input of {element:?}, not of numbers"
        )));
    }
    let shape = pinned_shape(declared, wanted).map_err(wrong)?;
    let fact = InferenceFact::dt_shape(element, &*shape);
    model.set_input_fact(0, fact).map_err(&failed)?;
    Ok(InputTensor { shape, element })
}

/// The input's shape with a batch of 1: from the manifest, which must agree with what the
/// file declares, or from the file alone.
fn pinned_shape(
    declared: &InferenceFact,
    wanted: Option<&Input>,
) -> std::result::Result<Vec<usize>, String> {
    let declared: Option<Vec<Option<usize>>> = (!declared.shape.is_open()).then(|| {
        let size = |dim: TDim| dim.to_usize().ok();
        declared
            .shape
            .dims()
            .map(|dim| dim.concretize().and_then(size))
            .collect()
    });
    let Some(input) = wanted else {
        let sizes = declared.filter(|sizes| !sizes.is_empty());
        let sizes = sizes.ok_or("declares no shape for its input; write a manifest")?;
        let rest = sizes
            .iter()
            .skip(1)
            .map(|size| size.filter(|size| *size > 0));
        let rest: Option<Vec<usize>> = rest.collect();
        let mut shape = rest.ok_or("leaves the size of its input open; write a manifest")?;
        shape.insert(0, 1);
        return bounded(shape);
    };
    let mut shape = vec![1];
    shape.extend(input.shape());
    if let Some(sizes) = declared {
        let agrees =
            |(size, wanted): (&Option<usize>, &usize)| size.is_none_or(|size| size == *wanted);
        let same_rank = sizes.len() == shape.len();
        if !same_rank || !sizes.iter().zip(&shape).skip(1).all(agrees) {
            let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
            let sizes: Vec<String> = sizes.iter().map(size).collect();
            let layout = match input.layout {
                Layout::Nchw => "nchw",
                Layout::Nhwc => "nhwc",
            };
            let sizes = sizes.join(", ");
            return Err(format!(
                "has an input of [{sizes}], the manifest says {shape:?} ({layout})"
            ));
        }
    }
    bounded(shape)
}

fn bounded(shape: Vec<usize>) -> std::result::Result<Vec<usize>, String> {
    match elements(&shape) {
        Some(_) => Ok(shape),
        None => Err(format!("has an input of {shape:?}, which is too large")),
    }
}

/// Refuses tensors too large for memory before anything of that size is allocated.
fn check_sizes(model: &InferenceModel, file: &Path) -> Result<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let Ok(Some(shape)) = output.fact.shape.as_concrete_finite() else {
                continue;
            };
            if elements(&shape).is_none() {
                let what = format_args!(
                    "has a tensor of {shape:?} (\"{}\"), which is too large",
                    node.name
                );
                return Err(Error::at(
                    ErrorKind::BadInput,
                    file,
                    what,
                    "use a smaller network",
                ));
            }
        }
    }
    Ok(())
}

/// Reads the graph of an ONNX file. Without `input` the file must declare its input's size.
///
/// # Errors
/// `BadInput` as [`Backbone::load`].
pub(crate) fn graph(bytes: &[u8], file: &Path, input: Option<&Input>) -> Result<Graph> {
    guarded(file, || {
        let mut parsed = Parsed::new(bytes, file)?;
        let failed = unusable(file, &parsed.unknown_operators);
        let tensor = input.map_or("", |input| &input.tensor);
        let pinned = pin_input(&mut parsed.model, input, tensor, file)?;
        let first = parsed
            .model
            .output_outlets()
            .map_err(&failed)?
            .first()
            .copied();
        let first = first
            .context("the network has no output")
            .map_err(&failed)?;
        parsed
            .model
            .select_output_outlets(&[first])
            .map_err(&failed)?;
        parsed.model.analyse(false).map_err(&failed)?;
        describe(&parsed, first, &pinned).map_err(&failed)
    })
}

fn describe(parsed: &Parsed, output: OutletId, input: &InputTensor) -> TractResult<Graph> {
    let names: HashMap<OutletId, &String> = parsed
        .outlets
        .iter()
        .map(|(name, id)| (*id, name))
        .collect();
    let named = |outlet: &OutletId| names.get(outlet).map(|name| (*name).clone());
    let model = &parsed.model;
    let mut graph = Graph {
        input: model
            .input_outlets()?
            .first()
            .and_then(named)
            .unwrap_or_default(),
        input_element: format!("{:?}", input.element),
        output: named(&output).unwrap_or_default(),
        nodes: Vec::new(),
        tensors: BTreeMap::new(),
        constants: tail::constants(model, &parsed.outlets, &parsed.operators),
    };
    for id in model.eval_order()? {
        let node = model.node(id);
        let operator = parsed.operators.get(&id);
        let slots = (0..node.outputs.len()).map(|slot| OutletId::new(id, slot));
        let outputs: Vec<(String, OutletId)> = slots
            .filter_map(|outlet| Some((named(&outlet)?, outlet)))
            .collect();
        for (name, outlet) in &outputs {
            let fact = model.outlet_fact(*outlet)?;
            let stored = operator.is_none() && *name != graph.input;
            graph.tensors.insert(name.clone(), described(fact, stored)?);
        }
        if let Some(operator) = operator {
            let outputs: Vec<String> = outputs.into_iter().map(|(name, _)| name).collect();
            graph.nodes.push(GraphNode {
                operator: operator.clone(),
                details: parsed.details.get(&id).cloned().unwrap_or_default(),
                inputs: node.inputs.iter().filter_map(named).collect(),
                equation: outputs
                    .first()
                    .and_then(|name| parsed.equations.get(name))
                    .cloned(),
                outputs,
            });
        }
    }
    Ok(graph)
}

fn described(fact: &InferenceFact, stored: bool) -> TractResult<GraphTensor> {
    let element = fact.datum_type.concretize();
    let constant = stored || fact.value.concretize().is_some();
    let shape = fact.shape.as_concrete_finite()?;
    Ok(GraphTensor {
        shape: shape.map(|shape| match constant {
            true => shape.to_vec(),
            false => without_batch(&shape).to_vec(),
        }),
        float: element.is_some_and(|element| element.is_float()),
    })
}

/// Turns tract's error into one line about the file.
fn unusable<'a>(
    file: &'a Path,
    unknown_operators: &'a [String],
) -> impl Fn(TractError) -> Error + 'a {
    move |error| {
        let what = if unknown_operators.is_empty() {
            format!(
                "is not a network that can be run here ({})",
                shortened(&format!("{error:#}"), MAX_REASON)
            )
        } else {
            format!(
                "uses operators that cannot be run here: {}",
                unknown_operators.join(", ")
            )
        };
        let remedy = "check the file, cut before that place, or export the network again";
        Error::at(ErrorKind::BadInput, file, what, remedy)
    }
}
