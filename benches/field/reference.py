"""Accuracy of four plain classifiers on cached features, as a reference for our heads.

Usage: reference.py INPUT_DIR OUTPUT.json

INPUT_DIR holds
  features.f32  little-endian float32, [rows, features], row-major
  labels.txt    one integer label a line, one line a row
  splits.json   {"features": F, "splits": [{"samples_per_class": 20, "seed": 0,
                 "train": [row, ...], "test": [row, ...]}, ...]}

OUTPUT.json gets {"results": [{"samples_per_class", "seed", "method", "accuracy"}, ...],
"versions": {...}}; accuracy is between 0 and 1. Exit code 2 means bad input.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import StandardScaler, normalize


class NearestClassMean:
    """Own lines because sklearn's NearestCentroid divides by zero at one sample a class."""

    def fit(self, features, labels):
        self.classes = np.unique(labels)
        self.means = np.stack([features[labels == label].mean(axis=0) for label in self.classes])

    def predict(self, features):
        return self.classes[pairwise_distances_argmin(features, self.means)]


def signed_square_root(features):
    return np.sign(features) * np.sqrt(np.abs(features))


def logistic(inverse_penalty):
    return LogisticRegression(C=inverse_penalty, max_iter=5000)


def classifiers(train, test):
    """Yields (method, model, train features, test features)."""
    yield "nearest_class_mean", NearestClassMean(), train, test
    scaler = StandardScaler().fit(train)
    yield "logistic_standardised", logistic(1.0), scaler.transform(train), scaler.transform(test)
    rooted = [normalize(signed_square_root(part)) for part in (train, test)]
    yield "logistic_sqrt_l2", logistic(100.0), *rooted
    yield "logistic_l2", logistic(10.0), normalize(train), normalize(test)


def read_input(folder):
    """Returns (features [rows, F], labels [rows], splits), checked against each other."""
    description = json.loads((folder / "splits.json").read_text())
    values = np.fromfile(folder / "features.f32", dtype="<f4")
    labels = np.loadtxt(folder / "labels.txt", dtype=np.int64, ndmin=1)
    width = int(description["features"])
    if width < 1 or values.size != labels.size * width:
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
    return values.reshape(labels.size, width).astype(np.float64), labels, description["splits"]


def evaluate(features, labels, splits):
    results = []
    for split in splits:
        train, test = split["train"], split["test"]
        for method, model, train_x, test_x in classifiers(features[train], features[test]):
            model.fit(train_x, labels[train])
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
        features, labels, splits = read_input(Path(arguments[0]))
        results = evaluate(features, labels, splits)
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
