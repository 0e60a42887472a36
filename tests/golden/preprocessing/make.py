"""Writes images/ and levels-*.png: what Pillow makes of 50 images, in 8 ways.

    pip install -r requirements.txt
    python make.py

30 images are generated here, in every format, colour model, orientation and shape that
matters; 20 are the demo's photographs. For each way of preprocessing there is one picture
`levels-NAME.png`: below one another, for each image, 16 x 16 grey levels taken from
the input tensor at evenly spaced places. `settings.json` says what the ways are.

Resizing and cutting are those of torchvision's Resize and CenterCrop on Pillow images,
written out here; `--torchvision` compares them with torchvision itself.
"""
import json
import math
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
DEMO = HERE.parents[2] / "crates/cli/demo/test"
GRID = 16

SETTINGS = {
    "built-in": dict(resize="short-side", resize_to=256, interpolation="bicubic", colour="rgb",
                     layout="nchw", height=224, width=224, mean=[127.0], scale=[0.0078125]),
    "small": dict(resize="short-side", resize_to=40, interpolation="bilinear", colour="rgb",
                  layout="nhwc", height=32, width=32, mean=[123.675, 116.28, 103.53],
                  scale=[0.01712, 0.01751, 0.01743]),
    "stretched": dict(resize="stretch", resize_to=0, interpolation="bicubic", colour="bgr",
                      layout="nchw", height=64, width=96, mean=[0.0], scale=[1.0]),
    "letterbox": dict(resize="letterbox", resize_to=0, interpolation="bilinear", colour="rgb",
                      layout="nchw", height=160, width=160, mean=[114.0], scale=[0.00392157]),
    "grey": dict(resize="short-side", resize_to=48, interpolation="bilinear", colour="grey",
                 layout="nchw", height=48, width=32, mean=[0.0], scale=[0.00392157]),
    "grey-stretched": dict(resize="stretch", resize_to=0, interpolation="bicubic", colour="grey",
                           layout="nhwc", height=28, width=28, mean=[128.0], scale=[0.0078125]),
}
SETTINGS["cropped"] = dict(SETTINGS["small"], resize_to=0, crop=0.7, height=40, width=40)
SETTINGS["stretched-cropped"] = dict(SETTINGS["stretched"], crop=0.875)
KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def scene(width, height, seed):
    """A picture with slow shades, soft discs, a few hard edges and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    size = max(width, height)
    picture = np.empty((height, width, 3))
    for channel in range(3):
        a, b, c = random.uniform(-3, 3, 3)
        picture[..., channel] = 120 + 60 * np.sin(a * x / size * 3 + b * y / size * 3 + c)
    for _ in range(8):
        cx, cy, r = random.uniform(0, width), random.uniform(0, height), random.uniform(0.05, 0.3) * size
        soft = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - r) / (0.01 * size + 0.5)))
        picture += soft[..., None] * (random.uniform(0, 255, 3) - picture) * 0.8
    for _ in range(3):
        left, top = random.integers(0, max(width - 2, 1)), random.integers(0, max(height - 2, 1))
        # Edges of lightness, the same in all channels.
        picture[top:top + height // 5 + 1, left:left + width // 6 + 1] += random.uniform(-80, 80)
    picture += random.normal(0, 2, picture.shape[:2])[..., None]
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8), "RGB")


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def generate():
    """Writes the generated images and returns their names."""
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    names = []

    def save(name, image, **options):
        image.save(folder / name, **options)
        names.append(f"images/{name}")

    for orientation in range(1, 9):
        save(f"turned-{orientation}.jpg", scene(120, 80, orientation), quality=90, subsampling=0,
             exif=exif(orientation))
    save("fine-colour.jpg", scene(301, 199, 20), quality=95, subsampling=0)
    save("halved-colour.jpg", scene(199, 301, 21), quality=88, subsampling=1)
    save("quartered-colour.jpg", scene(333, 250, 22), quality=85, subsampling=2)
    save("progressive.jpg", scene(257, 255, 23), quality=85, subsampling=2, progressive=True)
    save("large.jpg", scene(1200, 900, 24), quality=75, subsampling=2)
    save("tall.jpg", scene(90, 640, 25), quality=85, subsampling=0)
    save("wide.jpg", scene(1000, 64, 26), quality=85, subsampling=2)
    save("grey.jpg", scene(150, 200, 27).convert("L"), quality=90)
    save("cmyk.jpg", scene(140, 100, 28).convert("CMYK"), quality=92)
    save("restarts.jpg", scene(160, 160, 29), quality=90, subsampling=2, restart_marker_blocks=4)
    save("colour.png", scene(80, 61, 30))
    transparent = scene(64, 64, 31)
    alpha = Image.fromarray((np.mgrid[0:64, 0:64][1] * 4).astype(np.uint8), "L")
    transparent.putalpha(alpha)
    save("transparent.png", transparent)
    save("palette.png", scene(120, 90, 32).quantize(64))
    save("grey.png", scene(70, 50, 33).convert("L"))
    save("grey-transparent.png", transparent.convert("LA"))
    deep = np.asarray(scene(60, 60, 34).convert("L")).astype(np.uint16) * 257
    deep += np.mgrid[0:60, 0:60][0].astype(np.uint16)
    save("deep-grey.png", Image.fromarray(deep))
    save("black-and-white.png", scene(90, 90, 35).convert("1"))
    save("one-pixel.png", Image.new("RGB", (1, 1), (200, 30, 90)))
    save("lossy.webp", scene(220, 180, 36), quality=90)
    save("lossless.webp", transparent, lossless=True)
    save("colour.bmp", scene(50, 41, 37))
    save("palette.bmp", scene(64, 48, 38).quantize(32))
    return names


def photographs():
    """20 of the demo's photographs."""
    kinds = ["brick", "grass", "gravel"]
    files = [DEMO / kind / f"{number:02}.jpg" for number in range(1, 8) for kind in kinds]
    return [str(file.relative_to(HERE.parents[2])) for file in files[:20]]


def opened(name):
    """The image upright, in RGB, transparency dropped."""
    path = HERE / name if name.startswith("images/") else HERE.parents[2] / name
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        # Pillow would cut levels above 255 off.
        levels = (np.asarray(image).astype(np.uint32) + 128) // 257
        image = Image.fromarray(levels.astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def short_side(image, size, kernel):
    """torchvision.transforms.Resize with one number."""
    width, height = image.size
    if width <= height:
        return image.resize((size, int(size * height / width)), kernel)
    return image.resize((int(size * width / height), size), kernel)


def centre(image, height, width):
    """torchvision.transforms.CenterCrop on an image that is large enough."""
    top = int(round((image.height - height) / 2.0))
    left = int(round((image.width - width) / 2.0))
    return image.crop((left, top, left + width, top + height))


def resized_to(way):
    """Height and width before the crop: timm's `crop_pct`."""
    return [math.floor(way[side] / way.get("crop", 1.0)) for side in ("height", "width")]


def levels(image, way):
    """[height, width, channels] grey levels of the input."""
    kernel = KERNELS[way["interpolation"]]
    height, width = way["height"], way["width"]
    if way["resize"] == "short-side":
        side = way["resize_to"] or max(resized_to(way))
        image = centre(short_side(image, side, kernel), height, width)
    elif way["resize"] == "stretch":
        high, wide = resized_to(way)
        image = centre(image.resize((wide, high), kernel), height, width)
    else:
        mean = way["mean"] * (3 // len(way["mean"]))
        image = ImageOps.pad(image, (width, height), kernel, tuple(round(m) for m in mean))
    if way["colour"] == "grey":
        return np.asarray(image.convert("L"))[..., None].repeat(3, axis=2)
    array = np.asarray(image)
    return array[..., ::-1] if way["colour"] == "bgr" else array


def compare(names):
    """Says how far torchvision is from the above, in grey levels."""
    import torchvision
    from torchvision.transforms import v2

    modes = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}
    for title, way in SETTINGS.items():
        size = (way["height"], way["width"])
        mode = modes[way["interpolation"]]
        if way["resize"] == "letterbox":
            continue
        side = way["resize_to"] or max(resized_to(way))
        side = side if way["resize"] == "short-side" else resized_to(way)
        steps = [v2.Resize(side, mode), v2.CenterCrop(size)]
        steps += [v2.Grayscale(3)] if way["colour"] == "grey" else []
        furthest = 0
        for name in names:
            image = opened(name)
            array = np.asarray(v2.Compose(steps)(image)).astype(int)
            array = array[..., ::-1] if way["colour"] == "bgr" else array
            furthest = max(furthest, int(np.abs(array - levels(image, way)).max()))
        print(f"{title}: furthest from torchvision {torchvision.__version__}: {furthest}")


def main():
    names = generate() + photographs()
    assert len(names) == 50
    if "--torchvision" in sys.argv:
        return compare(names)
    text = {"made_by": f"Pillow {Image.__version__}", "grid": GRID, "images": names, "ways": SETTINGS}
    (HERE / "settings.json").write_text(json.dumps(text, indent=1) + "\n")
    for title, way in SETTINGS.items():
        sheet = []
        for name in names:
            array = levels(opened(name), way)
            places = lambda size: [(2 * i + 1) * size // (2 * GRID) for i in range(GRID)]
            sheet.append(array[places(way["height"])][:, places(way["width"])])
        Image.fromarray(np.concatenate(sheet)).save(HERE / f"levels-{title}.png", optimize=True)


main()
