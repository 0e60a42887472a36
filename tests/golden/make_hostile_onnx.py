"""Writes hostile_onnx/*.onnx: small files that ask for too much or contradict themselves.

    python make_hostile_onnx.py      (with requirements-any-onnx.txt installed)

Each must be refused with exit code 3, in little memory. The output of each is `y`.
"""
import pathlib

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

folder = pathlib.Path(__file__).with_name("hostile_onnx")
folder.mkdir(exist_ok=True)
BIG = 1 << 40


def constant(name, values, dtype=np.int64):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def save(name, nodes, initializers=(), shape=("n", 3, 8, 8), opset=17, element=T.FLOAT, change=None):
    graph = h.make_graph(list(nodes), name, [h.make_tensor_value_info("image", element, shape)],
                         [h.make_tensor_value_info("y", T.FLOAT, None)], list(initializers))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)])
    model.ir_version = 8
    if change:
        change(model)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def declared(name, dims, element=T.FLOAT, raw=b""):
    return T(name=name, dims=dims, data_type=element, raw_data=raw)


def external(location, dims=(4,), **more):
    tensor = T(name="w", dims=dims, data_type=T.FLOAT, data_location=T.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


add = [h.make_node("Add", ["image", "w"], ["y"])]
node = h.make_node

# The graph contradicts itself.
save("circle", [node("Add", ["image", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])])
save("circle_of_one", [node("Add", ["image", "y"], ["y"])])
save("made_twice", [node("Relu", ["image"], ["y"]), node("Abs", ["image"], ["y"])])
save("missing_weight", add)
save("missing_output", [node("Relu", ["image"], ["z"])])
save("no_input", [node("Relu", ["w"], ["y"])], [constant("w", [1.0], np.float32)])

# Tensors that do not hold what they declare.
save("stored_too_large", add, [declared("w", [BIG])])
save("stored_wraps", add, [declared("w", [1 << 32, 1 << 32])])
save("stored_negative", add, [declared("w", [-4])])
save("stored_short", add, [declared("w", [4], raw=b"\0\0")])
save("stored_odd_type", add, [declared("w", [4], element=99)])
save("stored_empty_type", add, [declared("w", [4], element=0)])
save("input_too_large", [node("Relu", ["image"], ["y"])], shape=(1, BIG, BIG, 3))

# Paths that lead out.
for index, location in enumerate(["../outside.bin", "/etc/passwd", "a/../../b", "", "\0", "C:\\x", "."]):
    save(f"path_{index}", add, [external(location)])
save("path_offset", add, [external("path_offset.onnx", offset=str((1 << 64) - 1))])
save("path_length", add, [external("path_length.onnx", dims=(BIG,), length=str(4 * BIG))])
save("path_missing", add, [external("no-such-file")])

# Constants that grow.
save("fill", [node("ConstantOfShape", ["s"], ["w"]), *add], [constant("s", [BIG])])
save("fill_wraps", [node("ConstantOfShape", ["s"], ["w"]), *add], [constant("s", [1 << 32, 1 << 32])])
save("fill_negative", [node("ConstantOfShape", ["s"], ["w"]), *add], [constant("s", [-BIG])])
save("expand", [node("Expand", ["c", "s"], ["w"]), *add], [constant("c", [1], np.float32), constant("s", [BIG])])
save("expand_input", [node("Expand", ["image", "s"], ["y"])], [constant("s", [BIG, 1, 1, 1])])
save("tile", [node("Tile", ["c", "s"], ["w"]), *add], [constant("c", [1], np.float32), constant("s", [BIG])])
save("tile_input_wraps", [node("Tile", ["image", "s"], ["y"])], [constant("s", [1, 1, 1 << 31, 1 << 33])])
save("range", [node("Range", ["a", "b", "c"], ["r"]), node("Cast", ["r"], ["w"], to=T.FLOAT), *add],
     [constant("a", 0), constant("b", BIG), constant("c", 1)])
save("range_of_zero", [node("Range", ["a", "b", "c"], ["r"]), node("Cast", ["r"], ["w"], to=T.FLOAT), *add],
     [constant("a", 0), constant("b", 8), constant("c", 0)])
save("pad", [node("Pad", ["image", "p"], ["y"])], [constant("p", [0, 0, BIG, 0, 0, 0, 0, BIG])])
save("resize", [node("Resize", ["image", "", "s"], ["y"])], [constant("s", [1, 1, 1e9, 1e9], np.float32)])
save("resize_sizes", [node("Resize", ["image", "", "", "s"], ["y"])], [constant("s", [1, 3, BIG, BIG])])
save("upsample", [node("Upsample", ["image", "s"], ["y"])], [constant("s", [1, 1, 1e9, 1e9], np.float32)], opset=9)
save("one_hot", [node("OneHot", ["i", "d", "v"], ["w"]), *add],
     [constant("i", [1, 2]), constant("d", BIG), constant("v", [0, 1], np.float32)])
long = constant("c", np.zeros(1 << 14), np.float32)
save("outer_product", [node("Reshape", ["c", "col"], ["l"]), node("Reshape", ["c", "row"], ["r"]),
                       node("MatMul", ["l", "r"], ["w"]), node("Relu", ["image"], ["z"]),
                       node("Sum", ["z", "w"], ["y"])],
     [long, constant("col", [-1, 1]), constant("row", [1, -1])])
doubling = [node("Concat", ["image", "image"], ["t0"], axis=2)]
doubling += [node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=2) for i in range(60)]
save("doubling", [*doubling, node("Relu", ["t60"], ["y"])])
doubling = [node("Concat", ["c", "c"], ["t0"], axis=0)]
doubling += [node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=0) for i in range(60)]
save("doubling_constants", [*doubling, node("ReduceSum", ["t60"], ["w"], keepdims=0), *add],
     [constant("c", [1], np.float32)])
many = [node("Concat", [f"m{i}"] * 64, [f"m{i + 1}"], axis=3) for i in range(7)]
save("many_large", [node("Relu", ["image"], ["m0"]), *many, node("Relu", ["m7"], ["y"])])

# Layers out of all proportion.
w = constant("w", np.zeros((4, 3, 3, 3)), np.float32)
for name, attributes in {
    "pads": dict(pads=[BIG, 0, 0, BIG]), "negative_pads": dict(pads=[-BIG, 0, 0, 0]),
    "dilations": dict(dilations=[BIG, 1]), "strides": dict(strides=[0, 0]),
    "group": dict(group=0), "large_group": dict(group=BIG), "kernel": dict(kernel_shape=[1 << 30, 1 << 30]),
    "other_kernel": dict(kernel_shape=[5, 5]), "many_pads": dict(pads=[1] * 1000),
    "negative_strides": dict(strides=[-1, 2]), "odd_auto_pad": dict(auto_pad="SOMEHOW"),
}.items():
    save(f"conv_{name}", [node("Conv", ["image", "w"], ["y"], **attributes)], [w])
save("conv_rank", [node("Conv", ["image", "v"], ["y"])], [constant("v", np.zeros((4, 3)), np.float32)])
save("pool", [node("MaxPool", ["image"], ["y"], kernel_shape=[1 << 20, 1 << 20], pads=[1 << 19] * 4)])
save("transposed", [node("ConvTranspose", ["image", "w3"], ["y"], strides=[1 << 20, 1 << 20])],
     [constant("w3", np.zeros((3, 4, 3, 3)), np.float32)])
save("lstm", [node("LSTM", ["seq", "lw", "lr"], ["y"], hidden_size=BIG), node("Squeeze", ["image"], ["seq"])],
     [constant("lw", np.zeros((1, 8, 8)), np.float32), constant("lr", np.zeros((1, 8, 2)), np.float32)])
save("reshape", [node("Reshape", ["image", "s"], ["y"])], [constant("s", [BIG, BIG])])
save("reshape_twice_open", [node("Reshape", ["image", "s"], ["y"])], [constant("s", [-1, -1])])
save("gather", [node("Gather", ["image", "i"], ["y"], axis=1)], [constant("i", [BIG, -BIG])])
save("gather_axis", [node("Gather", ["image", "i"], ["y"], axis=77)], [constant("i", [0])])
save("transpose", [node("Transpose", ["image"], ["y"], perm=[0, 1, 2, 77])])
save("transpose_rank", [node("Transpose", ["image"], ["y"], perm=[1, 0])])
save("transpose_same", [node("Transpose", ["image"], ["y"], perm=[1, 1, 1, 1])])
save("split", [node("Split", ["image", "s"], ["y", "z"], axis=1)], [constant("s", [BIG, -BIG])])
save("squeeze", [node("Squeeze", ["image", "s"], ["y"])], [constant("s", [99])])
save("slice_steps", [node("Slice", ["image", "a", "b", "c", "d"], ["y"])],
     [constant("a", [0]), constant("b", [8]), constant("c", [2]), constant("d", [0])])
save("equation", [node("Einsum", ["image"], ["y"], equation="(" * 10_000)])
save("no_inputs_of_a_node", [node("Conv", [], ["y"])])
save("no_outputs_of_a_node", [node("Relu", ["image"], []), node("Foo", ["image"], ["y"])])
save("depth_to_space", [node("DepthToSpace", ["image"], ["y"], blocksize=0)])
save("batch_norm", [node("BatchNormalization", ["image", "s", "s", "s", "s"], ["y"])],
     [constant("s", [1, 2], np.float32)])
save("gemm", [node("Gemm", ["image", "w"], ["y"])], [w])
save("quantise", [node("QuantizeLinear", ["image", "s", "z"], ["y"], axis=99)],
     [constant("s", [1, 2, 3], np.float32), constant("z", [0, 0, 0], np.uint8)])

# Structures without an end.
leaf = h.make_graph([h.make_node("Frobnicate", ["image"], ["o"])], "g", [],
                    [h.make_tensor_value_info("o", T.FLOAT, None)])
body = leaf
for _ in range(20):
    body = h.make_graph([h.make_node("If", ["flag"], ["o"], then_branch=body, else_branch=leaf)], "g", [],
                        [h.make_tensor_value_info("o", T.FLOAT, None)])
save("nested", [h.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=leaf)],
     [constant("flag", True, bool)])
deep = b""
for _ in range(400):  # a graph in an attribute in a node in a graph ..., by hand
    def field(number, payload):
        size, out = len(payload), bytearray([number << 3 | 2])
        while size >= 0x80:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes(out) + bytes([size]) + payload
    deep = field(1, field(5, field(6, deep)))
(folder / "deep.onnx").write_bytes(field(7, deep))
(folder / "empty.onnx").write_bytes(b"")
(folder / "no_graph.onnx").write_bytes(ModelProto(ir_version=8).SerializeToString())
(folder / "huge_length.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
save("long_symbol", [node("Frobnicate", ["image"], ["y"])], shape=("(" * 20_000, 3, 8, 8))
save("opset", [node("Resize", ["image", "", "s"], ["y"])], [constant("s", [1, 1, 2, 2], np.float32)], opset=-5)
print(len(list(folder.glob("*.onnx"))), "files,", sum(f.stat().st_size for f in folder.glob("*.onnx")), "bytes")
