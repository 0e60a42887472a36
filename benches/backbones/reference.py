"""Runs networks in ONNX Runtime: values at named tensors, and time at the output.

    python reference.py REQUESTS.json

A request: `file`, `input` (tensor, shape), `tensors` (name, values: the file to write). The
input is input[i] = ((7919 i) mod 256 - 127) / 128. Values without any rewriting by ONNX
Runtime, time with all of it, one thread, the least of several runs. Answers are printed as
one JSON document a line.
"""
import json
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
         "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}


def session(model, level):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer(request):
    tensor, shape = request["input"]["tensor"], request["input"]["shape"]
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = (((index * 7919) % 256 - 127) / 128).astype(np.float32).reshape(shape)
    model = onnx.load(request["file"])
    present = {output.name for output in model.graph.output}
    names = [it["name"] for it in request["tensors"]]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    plain = session(model.SerializeToString(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    kind = TYPES[next(it.type for it in plain.get_inputs() if it.name == tensor)]
    if np.issubdtype(kind, np.integer):
        values = np.trunc(values + np.copysign(0.5, values))
    feeds = {tensor: values.astype(kind)}
    for it, result in zip(request["tensors"], plain.run(names, feeds)):
        result.astype(np.float32).tofile(it["values"])
    quick = session(request["file"], ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    outputs = [quick.get_outputs()[0].name]
    times, start = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 50 and time.perf_counter() - start < 1.5):
        before = time.perf_counter()
        quick.run(outputs, feeds)
        times.append(time.perf_counter() - before)
    return {"name": request["name"], "ms": 1000 * min(times), "opset": model.opset_import[0].version,
            "nodes": len(model.graph.node)}


for request in json.load(open(sys.argv[1])):
    try:
        said = answer(request)
    except Exception as error:
        said = {"name": request["name"], "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    print(json.dumps(said), flush=True)
