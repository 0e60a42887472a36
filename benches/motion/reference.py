"""Accuracy of MiniRocket on the same series, and of plain classifiers on our statistics of them.

Usage: reference.py INPUT_DIR OUTPUT.json

INPUT_DIR holds
  features.f32  little-endian float32, [rows, features], row-major: our statistics
  rows.txt      a line a row: the label's number, a space, the path of the .csv file
  splits.json   {"features": F, "splits": [{"samples_per_class": 5, "seed": 0,
                 "train": [row, ...], "test": [row, ...]}, ...]}

MiniRocket is aeon's, with its usual 10,000 kernels, followed by what its classifier there does:
scaling without a mean and scikit-learn's RidgeClassifierCV with penalties from 0.001 to 1000.
Shorter series go on with their last value. Each classifier's own parameters are chosen by
cross-validation over its training rows.
"""

import json
import sys
import warnings
from pathlib import Path

import aeon
import numpy as np
import sklearn
from aeon.transformations.collection.convolution_based import MiniRocket
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

PENALTIES = [0.01, 0.1, 1.0, 10.0, 100.0]


def tuned(model, name, values, labels, usual):
    """`model` with the best of `values` by cross-validation; `usual` where a class has one
    sample and nothing can be held out."""
    folds = min(5, np.bincount(labels)[np.unique(labels)].min())
    if folds < 2:
        return model.set_params(**{name: usual})
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return GridSearchCV(model, {name: values}, cv=split)


def classifiers(labels):
    """Yields (method, model), for standardised statistics."""
    logistic = LogisticRegression(max_iter=300)
    yield "logistic regression", tuned(logistic, "C", PENALTIES, labels, 0.1)
    yield "SVM, radial", tuned(SVC(), "C", PENALTIES, labels, 10.0)
    yield "random forest", RandomForestClassifier(500, random_state=0)
    few = [k for k in (1, 3, 5) if k * 2 <= len(labels)] or [1]
    yield "k nearest", tuned(KNeighborsClassifier(), "n_neighbors", few, labels, 1)


def minirocket(train, test, labels, seed):
    rocket = MiniRocket(random_state=seed)
    train, test = rocket.fit_transform(train), rocket.transform(test)
    ridge = RidgeClassifierCV(alphas=np.logspace(-3, 3, 10))
    model = make_pipeline(StandardScaler(with_mean=False), ridge)
    return model.fit(train, labels).predict(test)


def of_one_length(paths):
    series = [np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T for path in paths]
    longest = max(9, max(one.shape[1] for one in series))
    pad = [np.pad(one, ((0, 0), (0, longest - one.shape[1])), mode="edge") for one in series]
    return np.stack(pad).astype(np.float32)


def main(folder, output):
    # Solvers that stop at their limit of steps say so for many of the weak penalties tried.
    warnings.filterwarnings("ignore")
    description = json.loads((folder / "splits.json").read_text())
    rows = [line.split(" ", 1) for line in (folder / "rows.txt").read_text().splitlines()]
    labels = np.array([int(label) for label, _ in rows])
    series = of_one_length([path for _, path in rows])
    features = np.fromfile(folder / "features.f32", dtype="<f4").astype(np.float64)
    features = features.reshape(len(rows), description["features"])
    results = []

    def add(split, method, found):
        accuracy = float(np.mean(found == labels[split["test"]]))
        cell = {key: split[key] for key in ("samples_per_class", "seed")}
        results.append({**cell, "method": method, "accuracy": accuracy})

    for split in description["splits"]:
        train, test = split["train"], split["test"]
        known = labels[train]
        found = minirocket(series[train], series[test], known, split["seed"])
        add(split, "MiniRocket and ridge", found)
        scaler = StandardScaler().fit(features[train])
        own, other = scaler.transform(features[train]), scaler.transform(features[test])
        for method, model in classifiers(known):
            add(split, method, model.fit(own, known).predict(other))
    versions = {"aeon": aeon.__version__, "scikit-learn": sklearn.__version__}
    document = {"results": results, "versions": versions}
    Path(output).write_text(json.dumps(document, indent=1) + "\n")


main(Path(sys.argv[1]), sys.argv[2])
