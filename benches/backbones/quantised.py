"""Why a network of quantised layers differs from ONNX Runtime: how many elements exact
arithmetic rounds to another step than ONNX Runtime does, from ONNX Runtime's own inputs of
each layer, and by how many steps the outputs differ. After `cargo bench --bench backbones`:

    python quantised.py FOLDER mobilenet_v2_qdq   (FOLDER: target/backbones)
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
import torch

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
file = folder / "models" / f"{name}.onnx"
model = onnx.load(file)
stored = {it.name: onnx.numpy_helper.to_array(it) for it in model.graph.initializer}
made_by = {output: node for node in model.graph.node for output in node.output}
output = model.graph.output[0].name
rounded = [node for node in model.graph.node
           if node.op_type == "QuantizeLinear" and node.input[0] not in stored]


def values(level, names):
    """Tensors by name, as ONNX Runtime computes them at a level of rewriting."""
    file = onnx.ModelProto.FromString(model.SerializeToString())
    present = {it.name for it in file.graph.output}
    file.graph.output.extend(onnx.ValueInfoProto(name=it) for it in names if it not in present)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = ort.InferenceSession(file.SerializeToString(), options)
    [input] = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in input.shape]
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    picture = (((index * 7919) % 256 - 127) / 128).astype(np.float32).reshape(shape)
    return dict(zip(names, session.run(names, {input.name: picture})))


def exact(tensor):
    """The numbers behind a DequantizeLinear, in float64."""
    node = made_by[tensor]
    steps = stored[node.input[0]] if node.input[0] in stored else plain[node.input[0]]
    scale, zero = (stored[it].astype(np.float64) for it in node.input[1:3])
    if scale.size > 1:
        axis = next((it.i for it in node.attribute if it.name == "axis"), 1)
        shape = [-1 if i == axis else 1 for i in range(steps.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return torch.tensor((steps.astype(np.float64) - zero) * scale)


def computed(node):
    """What a layer makes of ONNX Runtime's own inputs; None for other operators."""
    settings = {it.name: onnx.helper.get_attribute_value(it) for it in node.attribute}
    if node.op_type not in ("Conv", "Add"):
        return None
    inputs = [exact(it) for it in node.input]
    if node.op_type == "Add":
        return inputs[0] + inputs[1]
    top, left, bottom, right = settings.get("pads", [0] * 4)
    seen = torch.nn.functional.pad(inputs[0], (left, right, top, bottom))
    return torch.nn.functional.conv2d(seen, *inputs[1:], stride=settings.get("strides", 1),
                                      groups=settings.get("group", 1))


plain = values(ort.GraphOptimizationLevel.ORT_DISABLE_ALL, [it.output[0] for it in rounded] + [output])
others = elements = furthest = 0
for node in rounded:
    numbers = computed(made_by[node.input[0]]) if node.input[0] in made_by else None
    if numbers is None:
        continue
    scale, zero = stored[node.input[1]], stored[node.input[2]]
    limits = np.iinfo(zero.dtype)
    steps = np.clip(np.rint(numbers.numpy() / float(scale)) + int(zero), limits.min, limits.max)
    distance = np.abs(steps - plain[node.output[0]].astype(np.float64))
    if others == 0 and distance.any():
        print(f"first at {node.output[0]}")
    others, elements = others + int((distance > 0).sum()), elements + distance.size
    furthest = max(furthest, int(distance.max()))
print(f"rounded otherwise: {others} of {elements} elements, by at most {furthest} step")

step = float(stored[rounded[-1].input[1]])
rewritten = values(ort.GraphOptimizationLevel.ORT_ENABLE_ALL, [output])[output]
ours = np.fromfile(folder / f"{name}.0.fieldtune.f32", dtype=np.float32)
for who, found in [("fieldtune", ours), ("ONNX Runtime with its rewriting", rewritten.ravel())]:
    distance = np.rint(np.abs(found - plain[output].ravel()) / step).astype(int)
    shares = ", ".join(f"{many} by {steps}" for steps, many in enumerate(np.bincount(distance)))
    print(f"{who}, outputs that differ by so many steps of {step:.2g}: {shares}")
