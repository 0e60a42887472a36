//! Replaces parts of tract's graph by one operator each that does the same arithmetic
//! faster: convolutions in blocks of 16 channels, with bias, clamp and residual addition
//! in the same pass and no reordering in between. The kernels are in the crate
//! `fieldtune-kernels`; here is what is replaced and how it is put together.
//!
//! A *part* is a largest set of connected nodes that `recognise.rs` knows and that no path
//! leaves and enters again. What is not recognised stays tract's, so any network loads.

pub(super) mod front;
mod layers;
mod program;
mod recognise;
mod steps;

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{
    EvalContext, EvalOp, LaneId, Op, OpState, StaticName, as_op, not_out_of_plan, op_as_typed_op,
};
use tract_onnx::tract_hir::internal::TractErrorContext;

use layers::{Kind, Layer, Layers};
use program::{Memory, Program};
use recognise::Recognised;

/// Replaces every part of a decluttered network that can be. The network computes the same
/// as before, to rounding.
pub(super) fn replace(mut model: TypedModel) -> TractResult<TypedModel> {
    // One at a time: a part may read what another one gave before it was replaced.
    while let Some(patch) = next_patch(&model)? {
        patch.apply(&mut model)?;
        model.compact()?;
    }
    // Only now does nothing else hold the weights.
    for node in model.nodes_mut() {
        if let Some(operator) = node.op_as_mut::<Blocked>() {
            operator.pack()?;
        }
    }
    Ok(model)
}

/// Replaces the first part that can be.
fn next_patch(model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
    let recognised: HashMap<usize, Recognised> = model
        .nodes()
        .iter()
        .filter_map(|node| Some((node.id, recognise::layer(model, node)?)))
        .collect();
    for part in parts(model, &recognised)? {
        if let Some(patch) = patch(model, &recognised, &part)? {
            return Ok(Some(patch));
        }
    }
    Ok(None)
}

/// The parts, each in an order in which it can run.
///
/// A node's *level* counts the changes from nodes that are not recognised to ones that
/// are, on the way to it. Recognised nodes that are connected and of one level are a part:
/// a path that leaves it comes back on a higher level.
fn parts(
    model: &TypedModel,
    recognised: &HashMap<usize, Recognised>,
) -> TractResult<Vec<Vec<usize>>> {
    let mut levels: HashMap<usize, usize> = HashMap::new();
    let mut part_of: HashMap<usize, usize> = HashMap::new();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for id in model.eval_order()? {
        let known = recognised.get(&id);
        let level = |input: &OutletId| {
            let level = levels.get(&input.node).copied().unwrap_or(0);
            level + usize::from(known.is_some() && !recognised.contains_key(&input.node))
        };
        let node_level = model.node(id).inputs.iter().map(level).max().unwrap_or(0);
        levels.insert(id, node_level);
        let Some(known) = known else { continue };
        let beside = |input: &OutletId| {
            let same = levels.get(&input.node) == Some(&node_level);
            part_of.get(&input.node).copied().filter(|_| same)
        };
        let mut joined: Vec<usize> = known.inputs.iter().filter_map(beside).collect();
        joined.sort_unstable();
        joined.dedup();
        let target = joined.first().copied().unwrap_or_else(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        for other in joined.into_iter().skip(1) {
            let moved = std::mem::take(&mut parts[other]);
            moved.iter().for_each(|node| {
                part_of.insert(*node, target);
            });
            parts[target].extend(moved);
        }
        part_of.insert(id, target);
        parts[target].push(id);
    }
    // Joining has mixed the order.
    let order: HashMap<usize, usize> = model
        .eval_order()?
        .into_iter()
        .enumerate()
        .map(|(place, id)| (id, place))
        .collect();
    for part in &mut parts {
        part.sort_by_key(|id| order.get(id));
    }
    Ok(parts)
}

/// Replaces one part; `None` when that would bring nothing.
fn patch(
    model: &TypedModel,
    recognised: &HashMap<usize, Recognised>,
    part: &[usize],
) -> TractResult<Option<TypedModelPatch>> {
    let convolves = |id: &usize| {
        let kind = recognised.get(id).and_then(|it| it.kind.as_ref());
        matches!(kind, Some(Kind::Dense(..) | Kind::Depthwise(..)))
    };
    if !part.iter().any(convolves) {
        return Ok(None);
    }
    let Some((layers, inputs, outputs)) = numbered(model, recognised, part) else {
        return Ok(None);
    };
    let layers = layers.join();
    if Program::check(&layers).is_none() {
        return Ok(None);
    }
    let facts: TractResult<Vec<TypedFact>> = outputs
        .iter()
        .map(|outlet| {
            let fact = model.outlet_fact(*outlet)?;
            Ok(fact.datum_type.fact(fact.shape.clone()))
        })
        .collect();
    let operator = Blocked {
        work: Work::Layers(layers),
        facts: facts?,
    };
    let mut patch = TypedModelPatch::new("convolutions in blocks of channels");
    let taps = patch.taps(model, &inputs)?;
    let name = part.first().map_or("", |id| &model.node(*id).name);
    let wires = patch.wire_node(format!("{name}.blocked"), operator, &taps)?;
    for (outlet, wire) in outputs.iter().zip(wires) {
        patch.shunt_outside(model, *outlet, wire)?;
    }
    Ok(Some(patch))
}

/// The part as layers, and the outlets that go in and out.
fn numbered(
    model: &TypedModel,
    recognised: &HashMap<usize, Recognised>,
    part: &[usize],
) -> Option<(Layers, Vec<OutletId>, Vec<OutletId>)> {
    let mut layers = Layers::default();
    let mut values: HashMap<OutletId, usize> = HashMap::new();
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for id in part {
        let layer = recognised.get(id)?;
        let mut numbers = Vec::new();
        for outlet in &layer.inputs {
            if let Some(number) = values.get(outlet) {
                numbers.push(*number);
                continue;
            }
            let number = layers.maps.len();
            layers
                .maps
                .push(recognise::map(model.outlet_fact(*outlet).ok()?)?);
            layers.inputs.push(number);
            inputs.push(*outlet);
            values.insert(*outlet, number);
            numbers.push(number);
        }
        let outlet = OutletId::new(*id, 0);
        let fact = model.outlet_fact(outlet).ok()?;
        let input = *numbers.first()?;
        let output = match &layer.kind {
            None => input,
            Some(kind) => {
                let output = layers.maps.len();
                layers.maps.push(recognise::map(fact)?);
                layers.layers.push(Layer {
                    kind: kind.clone(),
                    input,
                    other: numbers.get(1).copied(),
                    output,
                    bias: layer.bias.clone(),
                    clamp: layer.clamp,
                });
                output
            }
        };
        values.insert(outlet, output);
        let leaves = |reader: &InletId| !part.contains(&reader.node);
        let read = model
            .node(*id)
            .outputs
            .first()?
            .successors
            .iter()
            .any(leaves);
        if read || model.output_outlets().ok()?.contains(&outlet) {
            // What only changes its name outside of any layer stays tract's.
            if layers.inputs.contains(&output) {
                return None;
            }
            layers.outputs.push(output);
            outputs.push(outlet);
        }
    }
    Some((layers, inputs, outputs))
}

/// A part of the network as one operator.
#[derive(Clone, Debug)]
struct Blocked {
    work: Work,
    facts: Vec<TypedFact>,
}

/// What a part does.
#[derive(Clone, Debug)]
enum Work {
    /// Checked, with weights that the network still holds.
    Layers(Layers),
    /// Ready to run.
    Program(Arc<Program>),
}

impl Blocked {
    fn pack(&mut self) -> TractResult<()> {
        if let Work::Layers(layers) = &mut self.work {
            let program = Program::new(std::mem::take(layers));
            let program = program.context("layers that were checked")?;
            self.work = Work::Program(Arc::new(program));
        }
        Ok(())
    }

    fn program(&self) -> TractResult<&Program> {
        let program = match &self.work {
            Work::Program(program) => Some(program.as_ref()),
            Work::Layers(_) => None,
        };
        program.context("a part that was not packed")
    }
}

impl PartialEq for Blocked {
    fn eq(&self, other: &Self) -> bool {
        match (&self.work, &other.work) {
            (Work::Program(one), Work::Program(other)) => Arc::ptr_eq(one, other),
            _ => std::ptr::eq(self, other),
        }
    }
}

impl Eq for Blocked {}

impl Op for Blocked {
    fn name(&self) -> StaticName {
        "Blocked".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Blocked {
    not_out_of_plan!();

    fn state(&self, _context: &EvalContext<'_>) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(State(self.program()?.memory()))))
    }
}

impl TypedOp for Blocked {
    as_op!();

    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts.iter().cloned().collect())
    }
}

/// The buffers of one thread.
#[derive(Clone, Debug)]
struct State(Memory);

impl OpState for State {
    fn eval(
        &mut self,
        _context: &EvalContext<'_>,
        operator: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let operator = operator
            .downcast_ref::<Blocked>()
            .context("the state of another operator")?;
        let plain: TractResult<Vec<_>> = inputs.iter().map(|it| it.try_as_plain_ram()).collect();
        let plain = plain?;
        let slices: TractResult<Vec<&[f32]>> = plain.iter().map(|it| it.as_slice()).collect();
        let mut results: Vec<Vec<f32>> = Vec::new();
        let mut shapes = Vec::new();
        for fact in &operator.facts {
            let shape = fact.shape.as_concrete().context("no fixed shape")?;
            results.push(vec![0.0; shape.iter().product()]);
            shapes.push(shape);
        }
        let mut targets: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        let program = operator.program()?;
        program.run(&mut self.0, &slices?, &mut targets);
        let tensor = |(shape, values): (&[usize], Vec<f32>)| {
            Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into_tvalue())
        };
        shapes.into_iter().zip(results).map(tensor).collect()
    }

    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        // Nothing survives from one run to the next.
        Ok(())
    }
}
