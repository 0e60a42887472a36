//! Loads a network that is part of the program: its layers are taken from its file as they
//! are, without tract's parser and optimiser. The numbers are the same.

use tract_onnx::prelude::*;

use super::operators::front::{Front, needed};
use super::outline::Outline;
use super::{Source, Tap};

/// A network ready to be planned.
pub(super) struct Direct {
    pub model: TypedModel,
    pub taps: Vec<Tap>,
    /// Of the input.
    pub shape: Vec<usize>,
}

impl Source<'_> {
    /// The network up to `cut`; `None` where it is not all layers that can be taken from the
    /// file, or has not this cut.
    pub(super) fn direct(&self, bytes: &'static [u8], cut: &str) -> Option<Direct> {
        let wanted = self.wanted;
        let input = wanted.input.filter(|_| wanted.fixed.is_empty())?;
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
        let model = front.model((&input.tensor, &shape), &tensors).ok()?;
        Some(Direct { model, taps, shape })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::backbone::{Operators, Wanted};
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
