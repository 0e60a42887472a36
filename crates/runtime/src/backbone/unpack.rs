//! Weights of another element type, converted once. tract does so itself up to 4 MiB and
//! converts larger ones at every run.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::EvalOp;
use tract_onnx::tract_core::ops::cast::Cast;

/// Replaces each conversion of a constant by what it gives.
pub(super) fn unpack(mut model: TypedModel) -> TractResult<TypedModel> {
    let mut patches = Vec::new();
    for node in model.nodes() {
        let (Some(cast), [input]) = (node.op_as::<Cast>(), node.inputs.as_slice()) else {
            continue;
        };
        let Some(constant) = &model.outlet_fact(*input)?.konst else {
            continue;
        };
        let converted = cast.eval_out_of_plan(tvec!(constant.clone().into_tvalue()))?;
        let Some([converted]) = converted.as_deref() else {
            continue;
        };
        let mut patch = TypedModelPatch::new("constants are converted once");
        let wire = patch.add_const(&node.name, converted.clone().into_arc_tensor())?;
        patch.shunt_outside(&model, node.id.into(), wire)?;
        patches.push(patch);
    }
    for patch in patches {
        patch.apply(&mut model)?;
    }
    model.compact()?;
    Ok(model)
}
