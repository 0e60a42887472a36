"""cleanlab on the same features and the same wrong labels as ours.

usage: reference.py INPUT_DIR OUTPUT.json

INPUT_DIR holds cases.json, `{"features": F, "cases": [{"name", "classes", "labels"}]}`,
and for each case NAME.features.f32 `[rows, F]` and NAME.probabilities.f32
`[rows, classes]`, our out-of-fold probabilities; little-endian.
"""

import json
import logging
import platform
import sys
import warnings
from pathlib import Path

import cleanlab
import numpy as np
import sklearn
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import normalize


def logistic(features, labels):
    """Out-of-fold probabilities of scikit-learn's logistic regression."""
    folds = int(min(5, np.bincount(labels).min()))
    split = StratifiedKFold(max(2, folds), shuffle=True, random_state=0)
    model = LogisticRegression(C=10.0, max_iter=5000)
    return cross_val_predict(model, normalize(features), labels, cv=split, method="predict_proba")


def judged(labels, probabilities):
    found = find_label_issues(labels, probabilities, n_jobs=1)
    quality = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    return {"found": np.flatnonzero(found).tolist(), "doubt": (-quality).tolist()}


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    folder = Path(arguments[0])
    description = json.loads((folder / "cases.json").read_text())
    results = {}
    for case in description["cases"]:
        name, labels = case["name"], np.asarray(case["labels"], dtype=np.int64)
        features = np.fromfile(folder / f"{name}.features.f32", dtype="<f4")
        features = features.reshape(labels.size, description["features"]).astype(np.float64)
        ours = np.fromfile(folder / f"{name}.probabilities.f32", dtype="<f4")
        ours = ours.reshape(labels.size, case["classes"]).astype(np.float64)
        ours /= ours.sum(axis=1, keepdims=True)
        results[name] = {
            "cleanlab_logistic": judged(labels, logistic(features, labels)),
            "cleanlab_ours": judged(labels, ours),
        }
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "cleanlab": cleanlab.__version__,
    }
    Path(arguments[1]).write_text(json.dumps({"results": results, "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
