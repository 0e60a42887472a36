"""Writes the series that ship inside of aeon as folders of .csv files.

Usage: export.py FOLDER SET...

FOLDER/SET/{train,test}/CLASS/NUMBER.csv: a first line with the names of the channels, a row a
point in time; the train and test parts are the archive's own. The files come from aeon's
package itself: nothing is downloaded. aeon is BSD-3-Clause; its sets are those of the UEA and
UCR archives of time series (timeseriesclassification.com), which state no licence of their own,
so that none of them is copied into this repository.
"""

import sys
from pathlib import Path

import aeon
import numpy as np
from aeon.datasets import load_classification


def main(folder, sets):
    data = str(Path(aeon.__file__).parent / "datasets" / "data")
    for name in sets:
        for split in ("train", "test"):
            series, labels = load_classification(
                name, split=split, extract_path=data, load_equal_length=False
            )
            for number, (values, label) in enumerate(zip(series, labels)):
                path = folder / name / split / str(label) / f"{number:04}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                header = ",".join(f"c{i}" for i in range(len(values)))
                np.savetxt(path, values.T, "%.7g", ",", header=header, comments="")


main(Path(sys.argv[1]), sys.argv[2:])
