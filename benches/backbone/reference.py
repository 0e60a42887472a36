"""MobileNetV2 with random weights, and ONNX Runtime's time for an image.

`reference.py make FILE` writes the network, as torchvision exports it: batch norm folded,
ReLU6 as Clip. `reference.py serve` reads lines `{"model", "threads", "images"}` and answers
each with a line `{"wall_ms", "processor_ms"}`, both for an image. With several threads ONNX Runtime can
share the work of one image among them, or run images side by side with a session for each
thread; both are measured and the faster counts.
"""

import json
import sys
import threading
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Writer:
    """Collects nodes and weights of a network."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.random = numpy.random.default_rng(1)

    def convolution(self, source, inputs, outputs, kernel, stride, groups, clip):
        name = f"conv{len(self.nodes)}"
        fan_in = inputs // groups * kernel * kernel
        shape = (outputs, inputs // groups, kernel, kernel)
        weights = self.random.standard_normal(shape) * (2 / fan_in) ** 0.5
        bias = self.random.standard_normal(outputs) * 0.1
        for suffix, values in (("w", weights), ("b", bias)):
            values = values.astype(numpy.float32)
            self.weights.append(numpy_helper.from_array(values, f"{name}.{suffix}"))
        padding = (kernel - 1) // 2
        self.nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}.w", f"{name}.b"], [name], name=name,
                kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4,
                group=groups,
            )
        )
        if clip:
            self.nodes.append(helper.make_node("Clip", [name, "low", "high"], [f"{name}.clip"]))
            return f"{name}.clip"
        return name


def make(path):
    """Sandler et al. 2018, width 1.0, 224 x 224 pixels, 1000 classes."""
    net = Writer()
    for name, value in (("low", 0.0), ("high", 6.0)):
        net.weights.append(numpy_helper.from_array(numpy.float32(value), name))
    value, channels = net.convolution("input", 3, 32, 3, 2, 1, True), 32
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for factor, outputs, repeats, first_stride in settings:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            start, width = value, channels * factor
            if factor > 1:
                value = net.convolution(value, channels, width, 1, 1, 1, True)
            value = net.convolution(value, width, width, 3, stride, width, True)
            value = net.convolution(value, width, outputs, 1, 1, 1, False)
            if stride == 1 and channels == outputs:
                name = f"add{len(net.nodes)}"
                net.nodes.append(helper.make_node("Add", [start, value], [name]))
                value = name
            channels = outputs
    value = net.convolution(value, channels, 1280, 1, 1, 1, True)
    net.nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"]))
    net.nodes.append(helper.make_node("Flatten", ["pool"], ["features"], axis=1))
    weights = net.random.standard_normal((1000, 1280)).astype(numpy.float32) * 0.03
    net.weights.append(numpy_helper.from_array(weights, "classifier.w"))
    net.weights.append(numpy_helper.from_array(numpy.zeros(1000, numpy.float32), "classifier.b"))
    net.nodes.append(
        helper.make_node("Gemm", ["features", "classifier.w", "classifier.b"], ["logits"], transB=1)
    )
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])
    graph = helper.make_graph(net.nodes, "mobilenet_v2", [image], [logits], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def session(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


SESSIONS = {}


def sessions(model, threads):
    """One that shares an image among threads, and one for each thread."""
    if (model, threads) not in SESSIONS:
        alone = [session(model, 1) for _ in range(threads)]
        together = session(model, threads) if threads > 1 else None
        SESSIONS[model, threads] = (together, alone)
    return SESSIONS[model, threads]


def measure(model, threads, images):
    """Wall and processor time of an image in milliseconds, the lesser of the two ways."""
    together, alone = sessions(model, threads)
    source = alone[0].get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in source.shape]
    pixels = numpy.random.default_rng(2).standard_normal(shape).astype(numpy.float32)

    def work(runner, count):
        for _ in range(count):
            runner.run(None, {source.name: pixels})

    def timed(run, count):
        start, used = time.perf_counter(), time.process_time()
        run()
        wall, used = time.perf_counter() - start, time.process_time() - used
        return {"wall_ms": wall / count * 1e3, "processor_ms": used / count * 1e3}

    def side_by_side():
        others = [threading.Thread(target=work, args=(runner, images)) for runner in alone[1:]]
        for other in others:
            other.start()
        work(alone[0], images)
        for other in others:
            other.join()

    answers = [timed(side_by_side, images * threads)]
    if together is not None:
        answers.append(timed(lambda: work(together, images), images))
    return {name: min(answer[name] for answer in answers) for name in answers[0]}


def serve():
    print(json.dumps({"version": onnxruntime.__version__}), flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        answer = measure(wanted["model"], wanted["threads"], wanted["images"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    make(sys.argv[2]) if sys.argv[1] == "make" else serve()
