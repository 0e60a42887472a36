//! Loads a network that is part of the program: the layers it begins with are taken from its
//! file as they are, and only what comes behind them goes through tract's parser and
//! optimiser. The numbers are the same as of the whole network in tract's hands.

use std::collections::BTreeMap;

use tract_onnx::pb::ValueInfoProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::TractErrorContext;

use super::analyse::Fault;
use super::onnx::Document;
use super::operators::front::{Front, needed};
use super::outline::Outline;
use super::pin::{Wanted, tensor_type};
use super::{Source, Tap};

/// A network ready to be planned.
pub(super) struct Direct {
    pub model: TypedModel,
    pub taps: Vec<Tap>,
    pub shape: Vec<usize>,
}

/// What stands behind the layers, as tract optimised it.
struct Rest {
    model: TypedModel,
    /// The one tensor that it reads of the layers.
    reads: String,
}

impl Source<'_> {
    /// The network up to `cut`; `None` where it does not begin with layers that can be taken
    /// from the file, or has not this cut.
    pub(super) fn direct(&self, bytes: &'static [u8], cut: &str) -> Option<Direct> {
        let input = self.wanted.input.filter(|_| self.wanted.fixed.is_empty())?;
        let mut shape = vec![1];
        shape.extend(input.shape());
        let outline = Outline::read(bytes)?;
        let known = |name: &str| {
            let mut outputs = outline.nodes.iter().flat_map(|node| &node.output);
            outputs.any(|output| output == name)
        };
        let taps = Tap::all(cut, known);
        let tensors: Vec<&str> = taps.iter().map(|tap| tap.tensor.as_str()).collect();
        let nodes = needed(&outline, &tensors);
        let front = Front::read(&outline, &nodes, (&input.tensor, &shape))?;
        let behind: Vec<&str> = tensors
            .iter()
            .copied()
            .filter(|it| !front.makes(it))
            .collect();
        // Before the layers take memory: tract needs much for a while.
        let rest = match behind.is_empty() {
            true => None,
            false => Some(self.rest(&outline, &front, &behind)?),
        };
        let model = joined(front, rest, (&input.tensor, &shape), &tensors).ok()?;
        Some(Direct { model, taps, shape })
    }

    /// What makes the tensors `behind` the layers.
    fn rest(&self, outline: &Outline, front: &Front<'_>, behind: &[&str]) -> Option<Rest> {
        let mut nodes = needed(outline, behind);
        nodes.retain(|index| {
            let outputs = outline.nodes.get(*index).map(|node| &node.output);
            !outputs.into_iter().flatten().any(|name| front.makes(name))
        });
        let read = nodes.iter().filter_map(|index| outline.nodes.get(*index));
        let mut read: Vec<&String> = read
            .flat_map(|node| &node.input)
            .filter(|name| front.makes(name))
            .collect();
        read.dedup();
        let [reads] = read.as_slice() else {
            return None;
        };
        let input = ValueInfoProto {
            name: reads.to_string(),
            r#type: Some(tensor_type(1, &front.shape(reads)?)),
            ..ValueInfoProto::default()
        };
        let document = Document::of(outline.part(&nodes, input), self.file).ok()?;
        let taps: Vec<Tap> = behind.iter().map(|tensor| Tap::whole(tensor)).collect();
        let source = Source {
            wanted: Wanted {
                input: None,
                fixed: &BTreeMap::new(),
            },
            ..*self
        };
        let (mut model, _) = source.typed(document, &taps).ok()?;
        model.optimize().map_err(Fault::unplaced).ok()?;
        Some(Rest {
            model,
            reads: reads.to_string(),
        })
    }
}

/// Layers and the rest as one network with these outputs.
fn joined(
    front: Front<'_>,
    rest: Option<Rest>,
    (input, shape): (&str, &[usize]),
    tensors: &[&str],
) -> TractResult<TypedModel> {
    let mut made: Vec<&str> = tensors
        .iter()
        .copied()
        .filter(|it| front.makes(it))
        .collect();
    let (mut model, reads) = match rest {
        Some(rest) => (rest.model, Some(rest.reads)),
        None => (TypedModel::default(), None),
    };
    let reads = reads.as_deref();
    let between = model.input_outlets()?.first().copied();
    let behind = model.output_outlets()?.to_vec();
    made.extend(reads.filter(|reads| !made.contains(reads)));
    let input = model.add_source(input, f32::fact(shape))?;
    let wires = front.wire(&mut model, input, &made)?;
    let wire = |tensor: &str| {
        let place = made.iter().position(|made| *made == tensor)?;
        wires.get(place).copied()
    };
    if let (Some(between), Some(reads)) = (between, reads) {
        let wire = wire(reads).context("a tensor that no layer makes")?;
        let readers = model.node(between.node).outputs.iter();
        let readers: Vec<InletId> = readers.flat_map(|it| it.successors.clone()).collect();
        for reader in readers {
            model.add_edge(wire, reader)?;
        }
    }
    let mut behind = behind.into_iter();
    let outputs = tensors.iter().map(|it| wire(it).or_else(|| behind.next()));
    let outputs: Option<Vec<OutletId>> = outputs.collect();
    model.set_input_outlets(&[input])?;
    model.select_output_outlets(&outputs.context("an output too few")?)?;
    model.compact()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backbone::Operators;
    use crate::model::Model;

    #[test]
    fn the_built_in_network_is_read_in_place_at_every_cut_that_its_manifest_names() {
        let model = Model::embedded().expect("sound");
        let source = Source {
            bytes: Model::embedded_bytes(),
            file: Path::new("embedded"),
            folder: None,
            wanted: Wanted {
                input: Some(&model.manifest().input),
                fixed: &BTreeMap::new(),
            },
            operators: Operators::Own,
        };
        let direct = |cut: &str| source.direct(Model::embedded_bytes(), cut);
        assert_eq!(model.manifest().cuts.len(), 5);
        for cut in &model.manifest().cuts {
            let direct = direct(cut).unwrap_or_else(|| panic!("{cut}"));
            let operators = direct.model.nodes().iter().map(|node| node.op.name());
            let own = operators.filter(|name| name == "Blocked").count();
            assert_eq!((own, direct.shape), (1, vec![1, 3, 224, 224]), "{cut}");
        }
        assert!(direct("no such tensor").is_none());
        assert!(direct("image").is_none());
    }

    #[test]
    fn what_is_no_network_is_not_read_in_place() {
        let damaged = &Model::embedded_bytes()[..4_000_000];
        assert!(Outline::read(damaged).is_none());
        assert!(Outline::read(b"no network").is_none());
    }
}
