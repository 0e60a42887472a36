//! Runs an exported file whole, to compare it with what it was made from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{TractErrorContext, format_err};

use crate::backbone::guard::guarded;
use crate::backbone::{InputTensor, failure, fill};
use crate::error::Result;

/// An ONNX file with all its inputs, as it is.
#[derive(Debug)]
pub struct Runner {
    plan: Arc<TypedRunnableModel>,
    /// In the file's order: its place in what is given, and how tract wants it.
    inputs: Vec<(usize, InputTensor)>,
    file: PathBuf,
}

impl Runner {
    /// Prepares a file for one sample at a time. `inputs` are names and shapes with the
    /// batch axis, in the order in which [`Runner::run`] takes them; `file` is for messages.
    ///
    /// # Errors
    /// `BadInput`, naming the file, when it cannot be run with them.
    pub fn new(bytes: &[u8], file: &Path, inputs: &[(&str, Vec<usize>)]) -> Result<Self> {
        guarded(file, || {
            let prepared = prepare(bytes, inputs).map_err(failure(file));
            prepared.map(|(plan, inputs)| Self {
                plan,
                inputs,
                file: file.into(),
            })
        })
    }

    /// Values of the outputs, in the file's order.
    ///
    /// # Errors
    /// `BadInput` when an input has the wrong length or the network fails.
    pub fn run(&self, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        guarded(&self.file, || {
            self.run_checked(inputs).map_err(failure(&self.file))
        })
    }

    fn run_checked(&self, inputs: &[&[f32]]) -> TractResult<Vec<Vec<f32>>> {
        let mut values = tvec!();
        for (place, input) in &self.inputs {
            let data = inputs.get(*place).context("an input is missing")?;
            let mut tensor = Tensor::zero_dt(input.element, &input.shape)?;
            if tensor.len() != data.len() {
                return Err(format_err!("an input has {} elements", data.len()));
            }
            fill(&mut tensor, data)?;
            values.push(TValue::from_const(Arc::new(tensor)));
        }
        let numbers = |output: &TValue| {
            let output = output.cast_to::<f32>()?;
            Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        self.plan.run(values)?.iter().map(numbers).collect()
    }
}

type Prepared = (Arc<TypedRunnableModel>, Vec<(usize, InputTensor)>);

fn prepare(bytes: &[u8], given: &[(&str, Vec<usize>)]) -> TractResult<Prepared> {
    let mut reader = bytes;
    let onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    let mut model = onnx.model_for_read(&mut reader)?;
    let outlets = model.input_outlets()?.to_vec();
    let mut inputs = Vec::new();
    for (index, outlet) in outlets.iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let place = given.iter().position(|(given, _)| *given == name);
        let place = place.with_context(|| format!("nothing is given for {name}"))?;
        let element = model.outlet_fact(*outlet)?.datum_type.concretize();
        let input = InputTensor {
            shape: given[place].1.clone(),
            element: element.unwrap_or(f32::datum_type()),
        };
        let fact = InferenceFact::dt_shape(input.element, &*input.shape);
        model.set_input_fact(index, fact)?;
        inputs.push((place, input));
    }
    Ok((model.into_optimized()?.into_runnable()?, inputs))
}
