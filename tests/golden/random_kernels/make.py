"""Writes what MiniRocket of aeon makes of a few random series, with its own parameters.

    python make.py      (with requirements.txt installed)

`golden.json` has a list of cases: the series `[cases, channels, length]`, for each dilation
its step and number of thresholds, the channels that each kernel sums, the thresholds (biases)
and the features. The series are random walks from a fixed seed.
"""
import json
import pathlib

import numpy as np
from aeon.transformations.collection.convolution_based import MiniRocket

CASES = [(1, 50, 336), (1, 9, 84), (5, 40, 504), (12, 23, 252)]


def case(channels, length, kernels):
    random = np.random.default_rng(channels + length)
    series = random.normal(size=(3, channels, length)).cumsum(axis=2)
    series = series.astype(np.float32)
    rocket = MiniRocket(n_kernels=kernels, random_state=1)
    features = rocket.fit_transform(series)
    counts, indices, dilations, thresholds, biases = rocket.parameters
    ends = np.cumsum(counts)
    return {
        "channels": channels,
        "length": length,
        "series": [[float(v) for v in one.ravel()] for one in series],
        "dilations": [[int(d), int(n)] for d, n in zip(dilations, thresholds)],
        "summed": [indices[end - n:end].tolist() for end, n in zip(ends, counts)],
        "thresholds": [float(v) for v in biases],
        "features": [[float(v) for v in row] for row in features],
    }


text = json.dumps([case(*one) for one in CASES])
(pathlib.Path(__file__).parent / "golden.json").write_text(text + "\n")
