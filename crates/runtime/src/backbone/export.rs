//! A backbone up to its cut and a head as one ONNX file. What the backbone is made of
//! (nodes, weights, everything said about the file) is copied byte for byte; what comes
//! after the cut is left out. What a user may ask for is in `crate::export`.

mod builder;
mod keep;
mod layers;
mod run;
#[cfg(test)]
mod tests;
mod wire;

use std::path::Path;

use fieldtune_core::network::{Layer, Network};
use fieldtune_core::transform::Transform;
use fieldtune_core::unknown::Unknown;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto,
};

use super::guard::guarded;
use super::onnx::Document;
use super::taps::CLASSES_WEIGHT;
use super::{Take, Tap};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Layout;
use crate::preprocess::View;
use crate::tail::training::reads_map;
use builder::{Builder, integer, value_info};
use keep::{Kept, copied};
pub use run::Runner;

/// Metadata keys that an export writes begin with this; older ones are replaced.
pub(crate) const METADATA: &str = "fieldtune.";

/// The opset of a head without a backbone.
const OPSET: i64 = 17;
/// The ONNX version that came with that opset.
const IR_VERSION: i64 = 8;
/// Before this opset, operators did not broadcast as they do now.
const OLDEST_OPSET: i64 = 7;
/// Before this ONNX version a stored tensor had to be an input as well.
const STORED_ALONE: i64 = 4;

/// What a head does, as it is written.
pub(crate) struct Parts<'a> {
    pub transform: Transform<'a>,
    pub network: &'a Network,
    pub parameters: &'a [f32],
    pub temperature: f32,
    /// Where a second output `unknown_score` is wanted.
    pub unknown: Option<Unknown<'a>>,
}

/// Numbers of fields of a model and of a graph.
mod field {
    pub const IR_VERSION: u64 = 1;
    pub const NODE: u64 = 1;
    pub const PRODUCER: [u64; 2] = [2, 3];
    pub const GRAPH: u64 = 7;
    pub const OPSET: u64 = 8;
    pub const METADATA: u64 = 14;
    pub const TRAINING: u64 = 20;
    pub const INPUT: u64 = 11;
    pub const OUTPUT: u64 = 12;
}

/// A merged file in the making: the backbone has been read, the head comes with
/// [`Merge::finish`].
pub(crate) struct Merge<'a> {
    file: &'a Path,
    model: Vec<wire::Field<'a>>,
    kept: Kept<'a>,
    builder: Builder,
    /// The input of each view that needs one of its own.
    inputs: Vec<(View, String)>,
    views: Vec<View>,
    taps: &'a [Tap],
    layout: Layout,
    /// Size of the axis that a mirror image turns round.
    width: usize,
}

impl<'a> Merge<'a> {
    /// Reads a backbone that takes pictures of `width` in `layout` and is cut at `taps`,
    /// whose features stand one after the other.
    /// The mirror image is made inside the file; other views are inputs of their own.
    ///
    /// # Errors
    /// `BadInput`, naming the file, when it is damaged, lacks a tensor of the cut, keeps weights
    /// in other files, or is older than opset 7.
    pub fn new(
        bytes: &'a [u8],
        file: &'a Path,
        taps: &'a [Tap],
        views: impl Iterator<Item = View>,
        (layout, width): (Layout, usize),
    ) -> Result<Self> {
        let wrong = |what: &str| {
            Error::at(
                ErrorKind::BadInput,
                file,
                what,
                "export the network to ONNX again",
            )
        };
        let damaged = || wrong("is damaged or not an ONNX file");
        let model = wire::fields(bytes).ok_or_else(damaged)?;
        let opset = opset(&model);
        if opset < OLDEST_OPSET {
            return Err(wrong(&format!(
                "has opset {opset}; a head needs {OLDEST_OPSET} or newer"
            )));
        }
        let graph = model.iter().find(|field| field.number == field::GRAPH);
        let graph = wire::fields(graph.ok_or_else(damaged)?.payload).ok_or_else(damaged)?;
        let cut = taps.iter().map(|tap| tap.tensor.clone()).collect();
        let kept = Kept::new(&graph, cut).map_err(|what| wrong(&what))?;
        let mut builder = Builder::new(kept.names(), opset);
        let views: Vec<View> = views.collect();
        let input = |view: &View| match view {
            View::Original => Some((*view, kept.input.to_string())),
            View::Mirrored => None,
            View::Near | View::Far | View::Brighter | View::Darker => {
                let wanted = format!("{}_{}", kept.input, view.name());
                Some((*view, builder.fresh(&wanted)))
            }
        };
        let inputs = views.iter().filter_map(input).collect();
        Ok(Self {
            file,
            model,
            kept,
            builder,
            inputs,
            views,
            taps,
            layout,
            width,
        })
    }

    /// The inputs of the file: which view each takes, and its name.
    pub fn inputs(&self) -> &[(View, String)] {
        &self.inputs
    }

    /// The file's bytes and the names of its outputs.
    ///
    /// # Errors
    /// `Usage` when a layer of the head has no ONNX operator.
    pub fn finish(
        mut self,
        parts: &Parts<'_>,
        metadata: &[(String, String)],
    ) -> Result<(Vec<u8>, Vec<String>)> {
        let mut graph = Vec::new();
        self.kept.put(&mut graph);
        let width = parts.network.inputs();
        let mut features = vec![self.features(View::Original, &mut graph, width)];
        for view in self.views.clone() {
            if view != View::Original {
                features.push(self.features(view, &mut graph, width));
            }
        }
        if !reads_map(parts.network) {
            features = vec![self.mean(features)];
        }
        let outputs = layers::head(&mut self.builder, parts, &features);
        let outputs = outputs.map_err(|layer| unwritable(self.file, layer))?;
        for (_, name) in &self.inputs {
            wire::put(&mut graph, field::INPUT, &self.kept.input_named(name));
        }
        for output in output_info(&outputs, parts) {
            wire::put(&mut graph, field::OUTPUT, &output.encode_to_vec());
        }
        let added = GraphProto {
            node: self.builder.nodes,
            initializer: self.builder.stored,
            ..GraphProto::default()
        };
        graph.extend(added.encode_to_vec());
        let mut bytes = kept_of_model(&self.model);
        wire::put(&mut bytes, field::GRAPH, &graph);
        // Messages of one kind written one after another are merged by every reader.
        bytes.extend(about(metadata, ir_version(&self.model)).encode_to_vec());
        Ok((bytes, outputs))
    }

    /// The mean of several views' features.
    fn mean(&mut self, features: Vec<String>) -> String {
        let share = 1.0 / features.len() as f32;
        let builder = &mut self.builder;
        let one = features.len() == 1;
        let sum = |sum: String, more: String| builder.node("Add", &[&sum, &more], "features.sum");
        let sum = features.into_iter().reduce(sum).unwrap_or_default();
        if one {
            return sum;
        }
        let share = self.builder.floats("features.share", &[1], [share]);
        self.builder.node("Mul", &[&sum, &share], "features.mean")
    }

    /// Features `[N, F]` of one view. The first copy of the backbone is the file's own;
    /// for other views those nodes are written once more that a picture passes.
    fn features(&mut self, view: View, graph: &mut Vec<u8>, width: usize) -> String {
        let kept = &self.kept;
        let cut = match view {
            View::Original => self.taps.iter().map(|tap| tap.tensor.clone()).collect(),
            View::Mirrored => {
                let input = mirrored(kept, &mut self.builder, self.layout, self.width);
                // A node stands after those whose outputs it reads.
                for node in self.builder.nodes.drain(..) {
                    wire::put(graph, field::NODE, &node.encode_to_vec());
                }
                copied(kept, &mut self.builder, view, &input, graph)
            }
            View::Near | View::Far | View::Brighter | View::Darker => {
                let named = self.inputs.iter().find(|(of, _)| *of == view);
                let input = named.map_or("", |(_, name)| name);
                copied(kept, &mut self.builder, view, input, graph)
            }
        };
        let builder = &mut self.builder;
        let name = |what: &str| format!("features.{}.{what}", view.name());
        // Where they are f32 already this is left out by whoever runs the file.
        let to_float = || vec![integer("to", DataType::Float as i64)];
        let mut float = |(tensor, tap): (&String, &Tap)| {
            let float = builder.node_with("Cast", &[tensor], &name("float"), to_float());
            match tap.take {
                Take::Whole => float,
                Take::Mean => builder.node("GlobalAveragePool", &[&float], &name("mean")),
                Take::Classes => classes(builder, &float, name),
            }
        };
        let floats: Vec<String> = cut.iter().zip(self.taps).map(&mut float).collect();
        if let [float] = &floats[..] {
            return builder.reshape(float, &[-1, width as i64], &name("flat"));
        }
        let mut flat = |tensor: &String| {
            let axis = vec![integer("axis", 1)];
            builder.node_with("Flatten", &[tensor], &name("flat"), axis)
        };
        let flats: Vec<String> = floats.iter().map(&mut flat).collect();
        let flats: Vec<&str> = flats.iter().map(String::as_str).collect();
        let axis = vec![integer("axis", 1)];
        builder.node_with("Concat", &flats, &name("joined"), axis)
    }
}

/// The tensors of a cut: one, or several with commas between them.
///
/// # Errors
/// `Usage` when the file has no such tensor, `BadInput` when it is damaged.
pub(crate) fn taps(bytes: &[u8], file: &Path, cut: &str) -> Result<Vec<Tap>> {
    guarded(file, || Document::read(bytes, file)?.taps(cut))
}

/// See [`Take::Classes`]; `name` names what is added.
fn classes(builder: &mut Builder, scores: &str, name: impl Fn(&str) -> String) -> String {
    let axis = vec![integer("axis", 1)];
    let shares = builder.node_with("Softmax", &[scores], &name("classes"), axis);
    let root = builder.node("Sqrt", &[&shares], &name("root"));
    let power = builder.node("Mul", &[&shares, &root], &name("power"));
    let weight = builder.floats(&name("weight"), &[1], [CLASSES_WEIGHT]);
    builder.node("Mul", &[&power, &weight], &name("weighted"))
}

/// Adds the mirror image of the input and gives its name.
fn mirrored(kept: &Kept<'_>, builder: &mut Builder, layout: Layout, width: usize) -> String {
    let columns: Vec<i64> = (0..width as i64).rev().collect();
    let columns = builder.integers("mirror.columns", &columns);
    let axis = match layout {
        Layout::Nchw => 3,
        Layout::Nhwc => 2,
    };
    let axis = vec![integer("axis", axis)];
    let wanted = format!("{}_mirrored", kept.input);
    builder.node_with("Gather", &[kept.input, &columns], &wanted, axis)
}

/// A head alone: features `[N, F]` in, of each view where it judges several, probabilities
/// `[N, K]` out. The file's bytes and the names of its outputs.
///
/// # Errors
/// `Usage`, naming `file`, when a layer of the head has no ONNX operator.
pub(crate) fn head_alone(
    file: &Path,
    inputs: &[String],
    parts: &Parts<'_>,
    metadata: &[(String, String)],
) -> Result<(Vec<u8>, Vec<String>)> {
    let mut builder = Builder::new(Default::default(), OPSET);
    let inputs: Vec<String> = inputs.iter().map(|name| builder.fresh(name)).collect();
    let outputs = layers::head(&mut builder, parts, &inputs);
    let outputs = outputs.map_err(|layer| unwritable(file, layer))?;
    let model = ModelProto {
        opset_import: vec![OperatorSetIdProto {
            version: OPSET,
            ..OperatorSetIdProto::default()
        }],
        graph: Some(GraphProto {
            name: "head".into(),
            input: inputs
                .iter()
                .map(|input| value_info(input, &[parts.network.inputs()]))
                .collect(),
            output: output_info(&outputs, parts),
            node: builder.nodes,
            initializer: builder.stored,
            ..GraphProto::default()
        }),
        ..about(metadata, IR_VERSION)
    };
    Ok((model.encode_to_vec(), outputs))
}

/// Probabilities `[N, K]`, and the score `[N]` if there is one.
fn output_info(outputs: &[String], parts: &Parts<'_>) -> Vec<ValueInfoProto> {
    let sizes = [vec![parts.network.classes()], Vec::new()];
    let named = outputs.iter().zip(&sizes);
    named.map(|(name, sizes)| value_info(name, sizes)).collect()
}

fn unwritable(file: &Path, layer: Layer) -> Error {
    let what = format_args!("has a layer that cannot be exported yet: {layer:?}");
    Error::at(
        ErrorKind::Usage,
        file,
        what,
        "train a head without such a layer",
    )
}

fn about(metadata: &[(String, String)], ir_version: i64) -> ModelProto {
    let entry = |(key, value): &(String, String)| StringStringEntryProto {
        key: format!("{METADATA}{key}"),
        value: value.clone(),
    };
    ModelProto {
        ir_version: ir_version.max(STORED_ALONE),
        producer_name: "fieldtune".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        metadata_props: metadata.iter().map(entry).collect(),
        ..ModelProto::default()
    }
}

/// All that is said about the file and stays true of its part.
fn kept_of_model(model: &[wire::Field<'_>]) -> Vec<u8> {
    let replaced = |field: &wire::Field<'_>| match field.number {
        field::IR_VERSION | field::GRAPH | field::TRAINING => true,
        field::METADATA => StringStringEntryProto::decode(field.payload)
            .is_ok_and(|entry| entry.key.starts_with(METADATA)),
        number => field::PRODUCER.contains(&number),
    };
    let kept = model.iter().filter(|field| !replaced(field));
    kept.flat_map(|field| field.whole).copied().collect()
}

/// Of ONNX's own operators; 1 where the file does not say.
fn opset(model: &[wire::Field<'_>]) -> i64 {
    let sets = model.iter().filter(|field| field.number == field::OPSET);
    let sets = sets.filter_map(|field| OperatorSetIdProto::decode(field.payload).ok());
    let own = |set: &OperatorSetIdProto| matches!(set.domain.as_str(), "" | "ai.onnx");
    sets.filter(own).map(|set| set.version).max().unwrap_or(1)
}

fn ir_version(model: &[wire::Field<'_>]) -> i64 {
    let own = model
        .iter()
        .filter(|field| field.number == field::IR_VERSION);
    let mut decoded = own.filter_map(|field| ModelProto::decode(field.whole).ok());
    decoded
        .next_back()
        .map_or(IR_VERSION, |model| model.ir_version)
}
