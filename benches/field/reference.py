"""Accuracy of plain classifiers on cached features, as a reference for our heads.

Usage: reference.py INPUT_DIR OUTPUT.json

INPUT_DIR holds
  features.f32  little-endian float32, [rows, features], row-major
  labels.txt    one integer label a line, one line a row
  splits.json   {"features": F, "last_layer": L, "splits": [{"samples_per_class": 20, "seed": 0,
                 "train": [row, ...], "test": [row, ...]}, ...]}

The classifiers see the first L features of a row, which are those of the network's last layer;
one of them is tried on all F as well.

OUTPUT.json gets {"results": [{"samples_per_class", "seed", "method", "accuracy"}, ...],
"versions": {...}}; accuracy is between 0 and 1. Exit code 2 means bad input.
"""

import json
import platform
import sys
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import LinearSVC


class NearestClassMean:
    """Own lines because sklearn's NearestCentroid divides by zero at one sample a class."""

    def fit(self, features, labels):
        self.classes = np.unique(labels)
        self.means = np.stack([features[labels == label].mean(axis=0) for label in self.classes])

    def predict(self, features):
        return self.classes[pairwise_distances_argmin(features, self.means)]


def signed_square_root(features):
    return np.sign(features) * np.sqrt(np.abs(features))


def span(train, test):
    """Both in an orthonormal basis of the training rows: the same for any classifier that
    is blind to rotations and penalises its weights, and smaller where rows are few."""
    if train.shape[0] >= train.shape[1]:
        return train, test
    basis, _ = np.linalg.qr(train.T)
    return train @ basis, test @ basis


def tuned(model, name, values, labels, usual):
    """`model` with the best of `values` by cross-validation; `usual` where a class has one
    sample and nothing can be held out."""
    folds = min(5, np.bincount(labels).min())
    if folds < 2:
        return model.set_params(**{name: usual})
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return GridSearchCV(model, {name: values}, cv=split)


class Mlp:
    """Dense 128, ReLU, dropout 0.3, Adam 0.001, batches of 16, 50 epochs: the recipe of
    Frigate, written out because scikit-learn's network has no dropout."""

    def fit(self, features, labels):
        random = np.random.default_rng(0)
        count, width = features.shape
        classes = labels.max() + 1
        sizes = [(width, 128), (128, classes)]
        limits = [np.sqrt(6 / (a + b)) for a, b in sizes]
        weights = [random.uniform(-l, l, s) for l, s in zip(limits, sizes)]
        self.parameters = [weights[0], np.zeros(128), weights[1], np.zeros(classes)]
        first = [np.zeros_like(p) for p in self.parameters]
        second = [np.zeros_like(p) for p in self.parameters]
        step = 0
        for _ in range(50):
            order = random.permutation(count)
            for start in range(0, count, 16):
                step += 1
                rows = order[start : start + 16]
                gradients = self.gradients(features[rows], labels[rows], random)
                for p, g, m, v in zip(self.parameters, gradients, first, second):
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    rate = 0.001 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                    p -= rate * m / (np.sqrt(v) + 1e-7)

    def gradients(self, x, labels, random):
        w1, b1, w2, b2 = self.parameters
        hidden = np.maximum(x @ w1 + b1, 0)
        kept = (random.random(hidden.shape) >= 0.3) / 0.7
        dropped = hidden * kept
        logits = dropped @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        error = np.exp(logits)
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        below = (error @ w2.T) * kept * (hidden > 0)
        return x.T @ below, below.sum(axis=0), dropped.T @ error, error.sum(axis=0)

    def predict(self, x):
        w1, b1, w2, b2 = self.parameters
        return (np.maximum(x @ w1 + b1, 0) @ w2 + b2).argmax(axis=1)


PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]


def classifiers(train, test, labels):
    """Yields (method, model, train features, test features)."""
    yield "nearest class mean", NearestClassMean(), train, test
    scaler = StandardScaler().fit(train)
    rooted = [normalize(signed_square_root(part)) for part in (train, test)]
    scaled = [normalize(part) for part in (train, test)]
    kinds = {
        "raw": (train, test, 0.1),
        "standardised": (scaler.transform(train), scaler.transform(test), 0.1),
        "L2": (*scaled, 10.0),
        "square root": (*rooted, 100.0),
    }
    for kind, (own, other, usual) in kinds.items():
        logistic = LogisticRegression(max_iter=300)
        model = tuned(logistic, "C", PENALTIES, labels, usual)
        yield f"logistic regression, {kind}", model, *span(own, other)
    if len(labels) > len(np.unique(labels)):
        shrunk = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        yield "LDA with shrinkage", shrunk, train, test
    support = tuned(LinearSVC(), "C", PENALTIES, labels, 1.0)
    yield "linear SVM, L2", support, *span(*scaled)
    few = [k for k in (1, 3, 5, 9) if k * 2 <= len(labels)] or [1]
    yield "k nearest, L2", tuned(KNeighborsClassifier(), "n_neighbors", few, labels, 1), *scaled
    yield "MLP with dropout (Frigate)", Mlp(), train, test


def on_all_layers(train, test, labels):
    """What the usual strongest of them gains from the features that ours looks at too."""
    rooted = [normalize(signed_square_root(part)) for part in (train, test)]
    model = tuned(LogisticRegression(max_iter=300), "C", PENALTIES, labels, 100.0)
    return "logistic regression, square root, all features", model, *span(*rooted)


def read_input(folder):
    """Returns (features [rows, F], L, labels [rows], splits), checked against each other."""
    description = json.loads((folder / "splits.json").read_text())
    values = np.fromfile(folder / "features.f32", dtype="<f4")
    labels = np.loadtxt(folder / "labels.txt", dtype=np.int64, ndmin=1)
    width, last = int(description["features"]), int(description["last_layer"])
    if not 1 <= last <= width:
        raise ValueError(f"splits.json: last_layer is {last}, must be 1 to {width}")
    if values.size != labels.size * width:
        raise ValueError(
            f"features.f32 holds {values.size} values, but labels.txt has {labels.size} rows "
            f"and splits.json says {width} features a row; write the three files together"
        )
    for split in description["splits"]:
        for part in ("train", "test"):
            rows = np.asarray(split[part], dtype=np.int64)
            if rows.size == 0 or rows.min() < 0 or rows.max() >= labels.size:
                raise ValueError(
                    f"splits.json: {part} rows of seed {split['seed']} are empty or "
                    f"outside 0..{labels.size - 1}"
                )
        if set(split["train"]) & set(split["test"]):
            raise ValueError(f"splits.json: seed {split['seed']} tests on rows it trains on")
    # float64: sklearn's solver stops earlier in float32.
    values = values.reshape(labels.size, width).astype(np.float64)
    return values, last, labels, description["splits"]


def evaluate(features, last, labels, splits):
    # Solvers that stop at their limit of steps say so for many of the weak penalties tried.
    warnings.filterwarnings("ignore")
    results = []
    for split in splits:
        train, test = split["train"], split["test"]
        known = labels[train]
        tried = list(classifiers(features[train][:, :last], features[test][:, :last], known))
        if last < features.shape[1]:
            tried.append(on_all_layers(features[train], features[test], known))
        for method, model, train_x, test_x in tried:
            model.fit(train_x, known)
            results.append(
                {
                    "samples_per_class": split["samples_per_class"],
                    "seed": split["seed"],
                    "method": method,
                    "accuracy": float(np.mean(model.predict(test_x) == labels[test])),
                }
            )
    return results


def main(arguments):
    if len(arguments) != 2:
        print("usage: reference.py INPUT_DIR OUTPUT.json", file=sys.stderr)
        return 2
    try:
        features, last, labels, splits = read_input(Path(arguments[0]))
        results = evaluate(features, last, labels, splits)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"reference.py: {arguments[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    output = {"results": results, "versions": versions}
    Path(arguments[1]).write_text(json.dumps(output, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
