"""The training steps of `cargo bench --bench peers` in PyTorch and scikit-learn.

Reads a JSON document a line and answers each with one. `reference.py THREADS`: what PyTorch
compiles is made for a number of threads, so every number has its own process.

scikit-learn's MLPClassifier without hidden layers is softmax regression trained with Adam; its
penalty is part of the gradient where AdamW's is not. It checks its input at every call and
has no adversarial features and no convolutions. SGDClassifier moves after every sample instead
of every batch, one class against the rest, and without momentum: not the same job.
"""

import json
import sys
import time
import warnings

import numpy
import sklearn
import torch
import torch.nn.functional as F
from sklearn.neural_network import MLPClassifier

FEATURES, CLASSES, MAP = 1280, 6, (320, 7, 7)
EPSILON, XI, WEIGHT_DECAY, MOMENTUM = 0.15, 0.01, 0.01, 0.9

torch.set_num_threads(int(sys.argv[1]))
warnings.filterwarnings("ignore")


class Tail(torch.nn.Module):
    """1x1 convolution, ReLU6 and pool."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(MAP[0], FEATURES, 1)

    def forward(self, h):
        return F.relu6(self.convolution(h)).mean((2, 3))


def stages(head):
    """Each layer with weights, and what follows it."""
    dense = torch.nn.Linear
    return {
        "linear": lambda: [dense(FEATURES, CLASSES)],
        "mlp:128": lambda: [
            torch.nn.Sequential(dense(FEATURES, 128), torch.nn.ReLU()), dense(128, CLASSES)],
        "tail": lambda: [Tail(), dense(FEATURES, CLASSES)],
    }[head]()


class Torch:
    """A head, its optimiser and its step, as it is or compiled."""

    def __init__(self, job):
        self.stages = torch.nn.ModuleList(stages(job["head"]))
        self.adversarial, self.turn = job["adversarial"], 0
        rate = job.get("learning_rate", 1e-4)
        if job["optimizer"] == "adamw":
            # "fused" is faster than the default for processors.
            self.optimizer = torch.optim.AdamW(
                self.parameters(), rate, weight_decay=WEIGHT_DECAY, fused=True)
        else:
            self.optimizer = torch.optim.SGD(
                self.parameters(), rate, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
        own = torch.compile if job["peer"] == "PyTorch compiled" else lambda work, **_: work
        self.plain = own(self.plain_loss)
        self.both = [own(self.losses(layer)) for layer in range(len(self.stages))]
        self.probed = [own(self.divergence(layer)) for layer in range(len(self.stages))]
        self.clean = own(self.tensors)

    def parameters(self):
        return self.stages.parameters()

    def restart(self, seed):
        """From other random weights, with what is compiled."""
        torch.manual_seed(seed)
        for module in self.stages.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        self.optimizer.state.clear()

    def tensors(self, inputs):
        """What every stage sees, and the logits."""
        found = [inputs]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found

    def plain_loss(self, inputs, labels):
        return F.cross_entropy(self.tensors(inputs)[-1], labels)

    def above(self, layer, h):
        for stage in self.stages[layer:]:
            h = stage(h)
        return h

    def divergence(self, layer):
        """How far the output at the probe is from the clean one."""
        def work(start, logits):
            clean = F.log_softmax(logits, 1)
            return F.kl_div(F.log_softmax(self.above(layer, start), 1), clean,
                            reduction="sum", log_target=True)
        return work

    def losses(self, layer):
        """The loss at the perturbed features."""
        def work(changed, labels):
            return F.cross_entropy(self.above(layer, changed), labels)
        return work

    def perturbed(self, layer, h, logits):
        """h + r, with r the direction that changes the output most."""
        h, logits = h.detach(), logits.detach()
        flat = h.flatten(1)
        norms = flat.norm(dim=1, keepdim=True)
        signs = torch.randint(0, 2, flat.shape).mul_(2).sub_(1)
        start = (flat + signs * (norms * (XI / flat.shape[1] ** 0.5))).view_as(h)
        start.requires_grad_()
        gradient, = torch.autograd.grad(self.probed[layer](start, logits), start)
        gradient = gradient.flatten(1)
        length = gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)
        return (flat + gradient * (EPSILON * norms / length)).view_as(h)

    def step(self, inputs, labels):
        self.optimizer.zero_grad()
        if not self.adversarial:
            self.plain(inputs, labels).backward()
        else:
            layer = self.turn % len(self.stages)
            self.turn += 1
            tensors = self.clean(inputs)
            loss = F.cross_entropy(tensors[-1], labels)
            changed = self.perturbed(layer, tensors[layer], tensors[-1])
            (loss + self.both[layer](changed, labels)).backward()
        self.optimizer.step()

    def batch(self, inputs, labels):
        shape = (-1, *MAP) if isinstance(self.stages[0], Tail) else (-1, FEATURES)
        return torch.from_numpy(inputs).view(shape), torch.from_numpy(labels)

    def predicted(self, inputs):
        with torch.no_grad():
            return self.above(0, torch.from_numpy(inputs)).argmax(1).numpy()


class Sklearn:
    """The same with MLPClassifier."""

    def __init__(self, job):
        self.job = job
        self.restart(1)

    def restart(self, seed):
        job = self.job
        hidden = {"linear": (), "mlp:128": (128,)}[job["head"]]
        rule = {"adamw": "adam", "sgd": "sgd"}[job["optimizer"]]
        self.model = MLPClassifier(
            hidden, solver=rule, alpha=WEIGHT_DECAY, batch_size=job["batch"], momentum=MOMENTUM,
            nesterovs_momentum=False, learning_rate_init=job.get("learning_rate", 1e-4),
            shuffle=False, random_state=seed)

    def batch(self, inputs, labels):
        return inputs.reshape(-1, FEATURES), labels

    def step(self, inputs, labels):
        # The last batch of an epoch can be shorter.
        self.model.batch_size = len(inputs)
        self.model.partial_fit(inputs, labels, classes=numpy.arange(CLASSES))

    def predicted(self, inputs):
        return self.model.predict(inputs)


KEPT = {}


def kept(job):
    """The one that was asked the same in an earlier turn, so that it compiles once."""
    key = json.dumps([job[name] for name in ("head", "batch", "optimizer", "adversarial")])
    if KEPT.get("key") != key:
        KEPT.clear()
        KEPT["key"] = key
        # Else what was compiled before counts against the number of tries it allows itself.
        torch.compiler.reset()
    name = job["peer"]
    if name not in KEPT:
        KEPT[name] = Sklearn(job) if name == "scikit-learn" else Torch(job)
    return KEPT[name]


def timed(job):
    """Median time of a step in microseconds."""
    peer = kept(job)
    width = int(numpy.prod(MAP)) if job["head"] == "tail" else FEATURES
    inputs = (numpy.arange(job["batch"] * width) * 37 % 101).astype(numpy.float32) / 101
    batch = peer.batch(inputs, numpy.arange(job["batch"]) % CLASSES)
    for _ in range(4):
        peer.step(*batch)
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < job["seconds"]:
        begin = time.perf_counter()
        peer.step(*batch)
        times.append(time.perf_counter() - begin)
    return {"median_us": sorted(times)[len(times) // 2] * 1e6}


def learn(job):
    """Seconds and epochs until the held-out rows are recognised well enough."""
    folder, rows, size = job["folder"], job["rows"], job["batch"]
    values = numpy.fromfile(f"{folder}/features.f32", "<f4").reshape(-1, FEATURES)
    labels = numpy.fromfile(f"{folder}/labels.u16", "<u2").astype(numpy.int64)
    order = numpy.fromfile(f"{folder}/order.u16", "<u2").reshape(-1, rows)
    peer = kept(job)
    # Compiling is not timed: it takes longer than all of the training.
    for now in (slice(0, size), slice(0, rows % size or size)):
        for _ in range(4):
            peer.step(*peer.batch(values[now], labels[now]))
    peer.restart(job["seed"])
    seconds, accuracy = 0.0, 0.0
    for epoch, chosen in enumerate(order):
        start = time.perf_counter()
        for at in range(0, rows, size):
            now = chosen[at:at + size]
            peer.step(*peer.batch(values[now], labels[now]))
        seconds += time.perf_counter() - start
        accuracy = float((peer.predicted(values[rows:]) == labels[rows:]).mean())
        if accuracy >= job["accuracy"]:
            return {"seconds": seconds, "epochs": epoch + 1, "accuracy": accuracy}
    return {"seconds": None, "accuracy": accuracy}


def main():
    versions = {"PyTorch": torch.__version__, "scikit-learn": sklearn.__version__}
    print(json.dumps({"version": versions}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps((learn if "folder" in job else timed)(job)), flush=True)


main()
