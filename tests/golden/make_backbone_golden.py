"""Writes backbone_features.json: features of the embedded backbone by ONNX Runtime.

    python make_backbone_golden.py MODEL.onnx   (needs onnx, onnxruntime, numpy)

The input is input[i] = ((7919 i) mod 256 - 127) / 128, i the index into [1, 3, 224, 224].
The network is cut at `features` by making that tensor an output.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

model = onnx.load(sys.argv[1])
model.graph.output.append(onnx.ValueInfoProto(name="features"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"])
index = np.arange(3 * 224 * 224, dtype=np.int64)
image = (((index * 7919) % 256 - 127) / 128).astype(np.float32).reshape(1, 3, 224, 224)
(features,) = session.run(["features"], {"image": image})
features = features.reshape(-1).astype(np.float64)
chosen = list(range(0, features.size, features.size // 64))[:64]
golden = {
    "made_by": f"onnxruntime {onnxruntime.__version__}",
    "features": features.size,
    "sum": float(features.sum()),
    "index": chosen,
    "value": [float(features[i]) for i in chosen],
}
path = pathlib.Path(__file__).with_name("backbone_features.json")
path.write_text(json.dumps(golden, indent=1) + "\n")
