#!/usr/bin/env python3
"""Cuts the demo's samples from three photographs that scikit-image ships.

Run once, by hand; the build does not need it. The patches in train/ and test/
are committed. In an empty virtual environment:

    pip install scikit-image==0.26.0 pillow==13.0.0
    python make_samples.py

Each photograph has 512 x 512 grey pixels. Training patches come from its left
192 columns, test patches from its right 288 columns; 32 columns between them
belong to neither, and no two patches overlap.
"""

import hashlib
import pathlib
import sys

import skimage
from PIL import Image

PATCH_PIXELS = 96
ROWS = 5
REGIONS = {"train": (0, 2), "test": (224, 3)}  # first column in pixels, patches across
JPEG_QUALITY = 90
SOURCES = {
    "brick": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}


def source_photograph(label: str, digest: str) -> Image.Image:
    path = pathlib.Path(skimage.__file__).parent / "data" / f"{label}.png"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        sys.exit(f"{path}: SHA-256 is {found}, expected {digest}; install scikit-image 0.26.0")
    return Image.open(path)


def cut(photograph: Image.Image, first_column: int, across: int, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(ROWS):
        for column in range(across):
            left = first_column + column * PATCH_PIXELS
            top = row * PATCH_PIXELS
            patch = photograph.crop((left, top, left + PATCH_PIXELS, top + PATCH_PIXELS))
            patch.save(folder / f"{row * across + column + 1:02}.jpg", quality=JPEG_QUALITY)


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    for label, digest in SOURCES.items():
        photograph = source_photograph(label, digest)
        for part, (first_column, across) in REGIONS.items():
            cut(photograph, first_column, across, here / part / label)


if __name__ == "__main__":
    main()
