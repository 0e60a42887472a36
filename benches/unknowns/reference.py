"""Area under the ROC curve of scores for samples of no trained class.

Usage: reference.py INPUT_DIR OUTPUT.json

INPUT_DIR holds
  features.f32  little-endian float32, [rows, features], row-major
  splits.json   {"features": F, "splits": [{"train": [row, ...], "labels": [label of each
                 training row, ...], "known": [row, ...], "unknown": [row, ...],
                 "ours": {method: [score of each known, then of each unknown row]}}, ...]}

OUTPUT.json gets {"auroc": [{method: value}, ...] in the order of the splits, "versions":
{...}}. All methods see square-rooted features of length 1; larger scores mean unknown.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize


def mahalanobis(train, labels, test):
    """Distance to the nearest class."""
    means = np.stack([train[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = LedoitWolf(assume_centered=True).fit(train - means[labels])
    return np.min([within.mahalanobis(test - mean) for mean in means], axis=0)


def scores(train, labels, test):
    model = LogisticRegression(C=100.0, max_iter=5000).fit(train, labels)
    if model.n_iter_.max() >= model.max_iter or model.n_iter_.min() < 3:
        raise ValueError(f"logistic regression took {model.n_iter_} steps: not converged")
    found = {"max softmax (logistic regression)": -model.predict_proba(test).max(axis=1)}
    found["Mahalanobis (Ledoit-Wolf)"] = mahalanobis(train, labels, test)
    neighbours = NearestNeighbors(n_neighbors=3, metric="cosine").fit(train)
    distances = neighbours.kneighbors(test)[0]
    found["nearest neighbour, cosine"] = distances[:, 0]
    found["third neighbour, cosine"] = distances[:, 2]
    return found


def main(arguments):
    if len(arguments) != 2:
        print("usage: reference.py INPUT_DIR OUTPUT.json", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    description = json.loads((folder / "splits.json").read_text())
    values = np.fromfile(folder / "features.f32", dtype="<f4").astype(np.float64)
    values = values.reshape(-1, description["features"])
    features = normalize(np.sign(values) * np.sqrt(np.abs(values)))
    results = []
    for split in description["splits"]:
        test = split["known"] + split["unknown"]
        truth = np.r_[np.zeros(len(split["known"])), np.ones(len(split["unknown"]))]
        found = scores(features[split["train"]], np.array(split["labels"]), features[test])
        found.update(split["ours"])
        results.append({name: float(roc_auc_score(truth, s)) for name, s in found.items()})
    versions = {"python": platform.python_version(), "scikit-learn": sklearn.__version__}
    Path(arguments[1]).write_text(json.dumps({"auroc": results, "versions": versions}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
