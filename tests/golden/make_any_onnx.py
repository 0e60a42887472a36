"""Writes any_onnx/*.onnx, small networks of every form that a backbone may have, and
any_onnx.json with what ONNX Runtime gives for them.

    python make_any_onnx.py      (with requirements-any-onnx.txt installed)

The input is input[i] = ((7919 i) mod 256 - 127) / 128 over the whole input. A case of the
JSON file: `file`, `input` (name, channels, height, width, layout), `fixed` (values of other
inputs), and `cuts`, a map from a cut to the values there, several tensors one after the
other. Weights are random, licence as this repository.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

folder = pathlib.Path(__file__).with_name("any_onnx")
folder.mkdir(exist_ok=True)
random = np.random.default_rng(6)
cases = []


def weight(name, *shape, dtype=np.float32):
    scale = 1 / np.sqrt(max(1, np.prod(shape[1:])))
    return numpy_helper.from_array((random.standard_normal(shape) * scale).astype(dtype), name)


def constant(name, values, dtype=np.int64):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def pattern(shape):
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    return (((index * 7919) % 256 - 127) / 128).astype(np.float32).reshape(shape)


def save(name, nodes, initializers, inputs, outputs, opset, ir=None, **kwargs):
    value = lambda it: h.make_tensor_value_info(it[0], it[1], it[2])
    graph = h.make_graph(nodes, name, [value(it) for it in inputs],
                         [value(it) for it in outputs], initializers)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)])
    if ir:
        model.ir_version = ir
    path = folder / f"{name}.onnx"
    onnx.save(model, path, **kwargs)
    return model


def case(name, model, cuts, chw, layout="nchw", fixed=None, input=None, feeds=None, tolerance=1e-4):
    """Runs the model with every cut as an output; `feeds` are its inputs if they are not the
    pattern in the shape that `chw` says."""
    c, height, width = chw
    input = input or model.graph.input[0].name
    if feeds is None:
        shape = (1, c, height, width) if layout == "nchw" else (1, height, width, c)
        feeds = {input: pattern(shape)}
    tensors = sorted({name for cut in cuts for name in cut.split(",")})
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    present = {output.name for output in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = dict(zip(tensors, session.run(tensors, feeds)))
    flat = lambda cut: np.concatenate([results[it].astype(np.float64).reshape(-1) for it in cut.split(",")])
    cases.append({
        "file": f"{name}.onnx",
        "input": {"tensor": input, "channels": c, "height": height, "width": width, "layout": layout},
        "fixed": fixed or {},
        "tolerance": tolerance,
        "cuts": {cut: [float(f"{v:.7g}") for v in flat(cut)] for cut in cuts},
    })


def small_cnn(opset):
    """Conv, BatchNormalization, pooling, and a flatten as exporters write it for an open
    batch: Shape, Gather, Concat, Reshape."""
    nodes = [
        h.make_node("Conv", ["image", "w1"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        h.make_node("BatchNormalization", ["conv", "scale", "bias", "mean", "variance"], ["norm"]),
        h.make_node("Relu", ["norm"], ["relu"]),
        h.make_node("Conv", ["relu", "w2"], ["depthwise"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=4),
        h.make_node("Add", ["depthwise", "relu"], ["sum"]),
        h.make_node("GlobalAveragePool", ["sum"], ["pool"]),
        h.make_node("Shape", ["pool"], ["shape"]),
        h.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
    ]
    if opset < 13:
        nodes.append(h.make_node("Unsqueeze", ["batch"], ["batch1"], axes=[0]))
    else:
        nodes.append(h.make_node("Unsqueeze", ["batch", "axes"], ["batch1"]))
    nodes += [
        h.make_node("Concat", ["batch1", "rest"], ["target"], axis=0),
        h.make_node("Reshape", ["pool", "target"], ["features"]),
        h.make_node("Gemm", ["features", "w3", "b3"], ["logits"], transB=1),
        h.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    variance = numpy_helper.from_array(random.uniform(0.5, 2, 4).astype(np.float32), "variance")
    initializers = [weight("w1", 4, 3, 3, 3), weight("scale", 4), weight("bias", 4), weight("mean", 4),
                    variance, weight("w2", 4, 1, 3, 3), weight("w3", 5, 4), weight("b3", 5),
                    constant("zero", 0), constant("rest", [-1])]
    if opset >= 13:
        initializers.append(constant("axes", [0]))
    return nodes, initializers


for opset in (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25):
    nodes, initializers = small_cnn(opset)
    batch = "batch" if opset % 2 else None
    inputs = [("image", T.FLOAT, [batch, 3, 8, 8])]
    if opset == 7:  # before IR 4 every initialiser is an input too
        inputs += [(it.name, it.data_type, list(it.dims)) for it in initializers]
    model = save(f"opset{opset}", nodes, initializers, inputs,
                 [("probabilities", T.FLOAT, [batch, 5])], opset, ir=3 if opset == 7 else min(10, opset))
    cuts = ["features", "probabilities"] + (["relu", "sum,features"] if opset in (7, 17) else [])
    case(f"opset{opset}", model, cuts, (3, 8, 8))

# Every size of the image open, channels last.
nodes = [h.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
         h.make_node("Conv", ["first", "w"], ["conv"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
         h.make_node("Transpose", ["conv"], ["last"], perm=[0, 2, 3, 1]),
         h.make_node("ReduceMean", ["last"], ["mean"], axes=[1, 2], keepdims=0)]
model = save("channels_last", nodes, [weight("w", 4, 3, 3, 3)],
             [("image", T.FLOAT, ["n", "height", "width", 3])], [("mean", T.FLOAT, ["n", 4])], 13)
case("channels_last", model, ["last", "mean"], (3, 6, 7), layout="nhwc")

# Two inputs that count, one that some outputs do not need, two outputs.
nodes = [h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[1, 1]),
         h.make_node("Relu", ["conv"], ["relu"]),
         h.make_node("GlobalAveragePool", ["relu"], ["pool"]),
         h.make_node("Flatten", ["pool"], ["embedding"]),
         h.make_node("Concat", ["embedding", "age"], ["both"], axis=1),
         h.make_node("Gemm", ["both", "w2"], ["scores"]),
         h.make_node("Cast", ["steps"], ["steps_f"], to=T.FLOAT),
         h.make_node("Mul", ["scores", "steps_f"], ["scaled"])]
model = save("inputs", nodes, [weight("w", 4, 3, 1, 1), weight("w2", 6, 3)],
             [("age", T.FLOAT, ["n", 2]), ("image", T.FLOAT, ["n", 3, 4, 4]), ("steps", T.INT64, [1])],
             [("scaled", T.FLOAT, ["n", 3]), ("embedding", T.FLOAT, ["n", 4])], 17)
case("inputs", model, ["embedding", "scores", "scaled"], (3, 4, 4), input="image",
     fixed={"age": 0.5, "steps": 3.0},
     feeds={"image": pattern((1, 3, 4, 4)), "age": np.full((1, 2), 0.5, np.float32),
            "steps": np.array([3], np.int64)})

# Weights in a file beside it.
nodes, initializers = small_cnn(17)
(folder / "side_file.weights").unlink(missing_ok=True)  # saving appends
model = save("side_file", nodes, initializers, [("image", T.FLOAT, ["batch", 3, 8, 8])],
             [("probabilities", T.FLOAT, ["batch", 5])], 17, save_as_external_data=True,
             location="side_file.weights", size_threshold=16)
case("side_file", onnx.load(folder / "side_file.onnx"), ["features", "probabilities"], (3, 8, 8))

# Weights of half precision that are cast, and a network that computes in half precision.
nodes = [h.make_node("Cast", ["half"], ["w"], to=T.FLOAT),
         h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[3, 3]),
         h.make_node("GlobalMaxPool", ["conv"], ["pool"])]
model = save("half_weights", nodes, [weight("half", 4, 3, 3, 3, dtype=np.float16)],
             [("image", T.FLOAT, [1, 3, 8, 8])], [("pool", T.FLOAT, [1, 4, 1, 1])], 13)
case("half_weights", model, ["pool"], (3, 8, 8))
nodes = [h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[3, 3]),
         h.make_node("Relu", ["conv"], ["relu"]), h.make_node("GlobalAveragePool", ["relu"], ["pool"])]
model = save("half", nodes, [weight("w", 4, 3, 3, 3, dtype=np.float16)],
             [("image", T.FLOAT16, [1, 3, 8, 8])], [("pool", T.FLOAT16, [1, 4, 1, 1])], 13)
case("half", model, ["relu", "pool"], (3, 8, 8),
     feeds={"image": pattern((1, 3, 8, 8)).astype(np.float16)}, tolerance=4e-3)


# Quantised: a scale for each channel or for a tensor, and a quantised softmax at the end.
def quantised(per_channel):
    def q(name, tensor, scale, zero, **more):
        return [h.make_node("QuantizeLinear", [tensor, scale, zero], [f"{name}_q"], name=f"{name}_quantize", **more),
                h.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [name], **more)]
    scales = random.uniform(0.005, 0.02, 4 if per_channel else 1).astype(np.float32)
    zeros = np.zeros(4 if per_channel else 1, np.int8)
    if not per_channel:
        scales, zeros = scales[0], zeros[0]
    nodes = q("image_d", "image", "image_scale", "image_zero")
    nodes.append(h.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"],
                             **({"axis": 0} if per_channel else {})))
    nodes.append(h.make_node("Conv", ["image_d", "w", "bias"], ["conv"], kernel_shape=[3, 3]))
    nodes.append(h.make_node("Relu", ["conv"], ["relu"]))
    nodes += q("relu_d", "relu", "relu_scale", "relu_zero")
    nodes += [h.make_node("GlobalAveragePool", ["relu_d"], ["pool"]),
              h.make_node("Flatten", ["pool"], ["features"])]
    nodes += q("logits", "features", "logits_scale", "logits_zero")
    nodes.append(h.make_node("Softmax", ["logits"], ["softmax"], axis=1))
    nodes += q("probabilities", "softmax", "softmax_scale", "softmax_zero")
    f = lambda name, value: numpy_helper.from_array(np.array(value, np.float32), name)
    i = lambda name, value, dtype: numpy_helper.from_array(np.array(value, dtype), name)
    initializers = [
        f("image_scale", 1 / 127), i("image_zero", 0, np.int8), f("w_scale", scales), i("w_zero", zeros, np.int8),
        i("w_q", random.integers(-127, 128, (4, 3, 3, 3)), np.int8), weight("bias", 4),
        f("logits_scale", 0.01), i("logits_zero", 3, np.int8),
        f("relu_scale", 0.02), i("relu_zero", 0, np.uint8),
        f("softmax_scale", 1 / 256), i("softmax_zero", -128, np.int8)]
    return nodes, initializers


for per_channel in (False, True):
    name = "quantised_channels" if per_channel else "quantised"
    nodes, initializers = quantised(per_channel)
    model = save(name, nodes, initializers, [("image", T.FLOAT, ["n", 3, 8, 8])],
                 [("probabilities", T.FLOAT, ["n", 4])], 13)
    case(name, model, ["relu", "features", "softmax", "probabilities", "probabilities_q"], (3, 8, 8),
         tolerance=0.021)

# Operators of old and new versions.
nodes = [h.make_node("Upsample", ["image", "scales"], ["large"], mode="nearest"),
         h.make_node("AveragePool", ["large"], ["pool"], kernel_shape=[3, 3], strides=[2, 2])]
model = save("upsample", nodes, [constant("scales", [1, 1, 2, 2], np.float32)],
             [("image", T.FLOAT, [1, 3, 4, 4])], [("pool", T.FLOAT, None)], 9)
case("upsample", model, ["large", "pool"], (3, 4, 4))
nodes = [h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[1, 1]),
         h.make_node("Gelu", ["conv"], ["gelu"]),
         h.make_node("GroupNormalization", ["gelu", "gs", "gb"], ["group"], num_groups=2),
         h.make_node("HardSwish", ["group"], ["hard"]),
         h.make_node("Mish", ["hard"], ["mish"]),
         h.make_node("Gelu", ["mish"], ["tanh"], approximate="tanh"),
         h.make_node("GlobalAveragePool", ["tanh"], ["pool"]),
         h.make_node("Flatten", ["pool"], ["flat"]),
         h.make_node("LayerNormalization", ["flat", "ls", "lb"], ["layer"])]
model = save("new_operators", nodes,
             [weight("w", 4, 3, 1, 1), weight("gs", 4), weight("gb", 4), weight("ls", 4), weight("lb", 4)],
             [("image", T.FLOAT, ["n", 3, 5, 5])], [("layer", T.FLOAT, ["n", 4])], 21)
case("new_operators", model, ["gelu", "group", "hard", "mish", "tanh", "layer"], (3, 5, 5))
nodes = [h.make_node("Swish", ["image"], ["swish"]),
         h.make_node("Flatten", ["swish"], ["flat"]),
         h.make_node("RMSNormalization", ["flat", "scale"], ["rms"])]
model = save("newest_operators", nodes, [weight("scale", 48)],
             [("image", T.FLOAT, ["n", 3, 4, 4])], [("rms", T.FLOAT, ["n", 48])], 24, ir=10)
case("newest_operators", model, ["rms"], (3, 4, 4))

# A recording, and a sequence for an LSTM.
nodes = [h.make_node("Conv", ["wave", "w"], ["conv"], kernel_shape=[5], strides=[2]),
         h.make_node("Relu", ["conv"], ["relu"]), h.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[3])]
model = save("one_dimension", nodes, [weight("w", 4, 1, 5)], [("wave", T.FLOAT, ["n", 1, 32])],
             [("pool", T.FLOAT, None)], 17)
case("one_dimension", model, ["pool"], (1, 1, 32), feeds={"wave": pattern((1, 1, 32))})
nodes = [h.make_node("Transpose", ["steps"], ["time_first"], perm=[1, 0, 2]),
         h.make_node("LSTM", ["time_first", "w", "r", "b"], ["all", "last", ""], hidden_size=3),
         h.make_node("Squeeze", ["last", "axis"], ["state"])]
model = save("recurrent", nodes, [weight("w", 1, 12, 4), weight("r", 1, 12, 3), weight("b", 1, 24),
                                  constant("axis", [0])],
             [("steps", T.FLOAT, ["n", 6, 4])], [("state", T.FLOAT, ["n", 3])], 17)
case("recurrent", model, ["state"], (1, 6, 4), feeds={"steps": pattern((1, 6, 4))})

# Operators that nobody has, or that are used as tract cannot: the cuts before them work.
nodes = [h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[1, 1], name="/stem/conv"),
         h.make_node("Relu", ["conv"], ["relu"], name="/stem/relu"),
         h.make_node("Frobnicate", ["relu"], ["odd"], name="/middle/odd", domain="example"),
         h.make_node("Flatten", ["odd"], ["flat"])]
model = h.make_model(h.make_graph(nodes, "unknown_operator",
                                  [h.make_tensor_value_info("image", T.FLOAT, ["n", 3, 4, 4])],
                                  [h.make_tensor_value_info("flat", T.FLOAT, None)],
                                  [weight("w", 2, 3, 1, 1)]),
                     opset_imports=[h.make_opsetid("", 17), h.make_opsetid("example", 1)])
onnx.save(model, folder / "unknown_operator.onnx")
nodes = [h.make_node("Conv", ["image", "w"], ["conv"], kernel_shape=[1, 1], name="/stem/conv"),
         h.make_node("Relu", ["conv"], ["relu"], name="/stem/relu"),
         h.make_node("Reshape", ["relu", "seven"], ["bad"], name="/middle/bad"),
         h.make_node("Flatten", ["bad"], ["flat"])]
model = h.make_model(h.make_graph(nodes, "impossible_shape",
                                  [h.make_tensor_value_info("image", T.FLOAT, ["n", 3, 4, 4])],
                                  [h.make_tensor_value_info("flat", T.FLOAT, None)],
                                  [weight("w", 2, 3, 1, 1), constant("seven", [1, 7, 5])]),
                     opset_imports=[h.make_opsetid("", 17)])
onnx.save(model, folder / "impossible_shape.onnx")

golden = {"made_by": f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}", "cases": cases}
path = pathlib.Path(__file__).with_name("any_onnx.json")
path.write_text(json.dumps(golden, indent=0).replace(",\n", ", ").replace("{\n\"file", "\n{\"file") + "\n")
print(len(cases), "cases")
