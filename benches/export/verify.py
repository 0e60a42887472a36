"""Checks exported files and runs them: python verify.py FOLDER

FOLDER/cases.json names the files, their inputs and the number of samples; the tensors of
input i of a file NAME.onnx are NAME.INPUT.f32. Each file passes onnx.checker, with shape
inference, and runs in ONNX Runtime sample by sample. Writes FOLDER/found.json.
"""
import json
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime

folder = pathlib.Path(sys.argv[1])
found = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "cases": {}}
for case in json.loads((folder / "cases.json").read_text()):
    path = folder / f"{case['name']}.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    assert sorted(names) == sorted(each["name"] for each in case["inputs"]), names
    tensors = {}
    for each in case["inputs"]:
        values = np.fromfile(folder / f"{case['name']}.{each['name']}.f32", np.float32)
        tensors[each["name"]] = values.reshape([case["samples"]] + each["shape"])
    outputs, times = [], []
    for sample in range(case["samples"]):
        feed = {name: values[sample:sample + 1] for name, values in tensors.items()}
        start = time.perf_counter()
        outputs.append(session.run(None, feed))
        times.append(time.perf_counter() - start)
    probabilities = np.concatenate([each[0] for each in outputs])
    batch = min(4, case["samples"])
    several = session.run(None, {name: values[:batch] for name, values in tensors.items()})[0]
    metadata = session.get_modelmeta().custom_metadata_map
    found["cases"][case["name"]] = {
        "probabilities": probabilities.astype(float).tolist(),
        "least_ms": 1000 * min(times),
        "batch_difference": float(np.abs(several - probabilities[:batch]).max()),
        "labels": json.loads(metadata["fieldtune.labels"]),
        "opset": {each.domain or "ai.onnx": each.version for each in onnx.load(path).opset_import},
    }
(folder / "found.json").write_text(json.dumps(found))
