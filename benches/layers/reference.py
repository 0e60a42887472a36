"""The same layers on the same numbers in PyTorch, one thread: how far the results are
apart, and how long forward and backward passes take.

Usage: reference.py FOLDER OUTPUT. FOLDER holds cases.json and values.f32, written by the
bench; OUTPUT becomes a JSON document with one entry a case.
"""

import json
import sys
import time

import numpy
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def forward(layers, x):
    tensors = [x]
    for layer in layers:
        kind, own = layer["kind"], layer.get("tensors", {})
        x = tensors[-1]
        if kind == "dense":
            x = F.linear(x.flatten(1), own["weights"], own["biases"])
        elif kind == "convolution":
            top, left, bottom, right = layer["padding"]
            padding = [top, left]
            if (top, left) != (bottom, right):
                x, padding = F.pad(x, (left, right, top, bottom)), 0
            x = F.conv2d(x, own["weights"], own["biases"], layer["stride"], padding,
                         groups=layer["groups"])
        elif kind == "batch norm":
            shape = (1, -1, 1, 1)
            scale = own["weights"].view(shape)
            x = (x - own["means"].view(shape)) * own["inverses"].view(shape) * scale
            x = x + own["biases"].view(shape)
        elif kind == "max pool":
            top, left, bottom, right = layer["padding"]
            x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
            x = F.max_pool2d(x, layer["kernel"], layer["stride"])
        elif kind == "global average pool":
            x = x.mean((2, 3))
        elif kind == "add":
            x = x + tensors[layer["from"]]
        elif kind != "input":
            x = {"relu": F.relu, "relu6": F.relu6, "hard-swish": F.hardswish,
                 "silu": F.silu}[kind](x)
        tensors.append(x)
    return tensors[-1]


def apart(found, expected):
    """The largest difference, relative to the largest element."""
    largest = expected.abs().max().clamp_min(1e-30)
    return ((found - expected).abs().max() / largest).item()


def run(case, values):
    def take(place, shape):
        start = place
        return torch.from_numpy(values[start:start + int(numpy.prod(shape))].copy()).view(shape)

    trained = []
    for layer in case["layers"]:
        own = layer["tensors"] = {}
        for name, (place, shape, _) in layer.get("parameters", {}).items():
            own[name] = take(place, shape)
            if name in ("weights", "biases"):
                trained.append((layer, name))
    x, labels = take(*case["input"]), torch.tensor(case["labels"])
    result, exact = {}, []
    for kind in (torch.float64, torch.float32):
        for layer in case["layers"]:
            layer["tensors"] = {n: t.detach().to(kind) for n, t in layer["tensors"].items()}
        leaves = [layer["tensors"][name].requires_grad_() for layer, name in trained]
        inputs = x.to(kind)
        logits = forward(case["layers"], inputs)
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels), leaves)
        exact = exact or [logits.detach(), *gradients]
        result["torch_error"] = max(map(apart, [logits.detach().double(), *gradients], exact))
        if kind is torch.float64:
            found = take(*case["logits"]).double()
            errors = [apart(found, logits.detach())]
            for (layer, name), gradient in zip(trained, gradients):
                place, shape = layer["parameters"][name][2], gradient.shape
                errors.append(apart(take(place, shape).double(), gradient))
            result["error"] = max(errors)
    times = []
    for _ in range(case["repeats"]):
        start = time.perf_counter()
        loss = F.cross_entropy(forward(case["layers"], inputs), labels)
        torch.autograd.grad(loss, leaves)
        times.append(time.perf_counter() - start)
    result["pass_us"] = sorted(times)[len(times) // 2] * 1e6
    return result


def main():
    folder, output = sys.argv[1:]
    with open(f"{folder}/cases.json") as file:
        cases = json.load(file)
    values = numpy.fromfile(f"{folder}/values.f32", dtype="<f4")
    results = [run(case, values) for case in cases]
    with open(output, "w") as file:
        json.dump({"torch": torch.__version__, "cases": results}, file)


main()
