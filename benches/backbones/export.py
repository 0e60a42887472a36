"""Exports the architectures of the conformance table with random weights, and runs each in
ONNX Runtime: values at its output and at two cuts in the middle, and time.

    python -m venv V && V/bin/pip install -r requirements.txt
    V/bin/python export.py FOLDER [NAME...]

Weights are not pretrained (structure is what is tested), but batch norms get statistics of
the random input, so that values neither vanish nor overflow. For each architecture FOLDER
holds NAME.onnx, NAME.json (its input, and why it could not be exported if so).
"""
import json
import pathlib
import sys
import warnings

import numpy as np
import torch
from torch import nn

warnings.filterwarnings("ignore")


class DepthwiseKeywords(nn.Module):
    """DS-CNN for keyword spotting: Zhang et al., Hello Edge (2017), small variant."""

    def __init__(self, classes=12, width=64):
        super().__init__()
        stage = lambda i, o, **k: [nn.Conv2d(i, o, bias=False, **k), nn.BatchNorm2d(o), nn.ReLU()]
        layers = stage(1, width, kernel_size=(10, 4), stride=(2, 2), padding=(5, 1))
        for _ in range(4):
            layers += stage(width, width, kernel_size=3, padding=1, groups=width)
            layers += stage(width, width, kernel_size=1)
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x):
        return self.body(x)


class Waveform(nn.Module):
    """1-D convolutions on a raw recording, in the manner of M5: Dai et al. (2017)."""

    def __init__(self, classes=12):
        super().__init__()
        layers, channels = [], 1
        for width, kernel, stride in [(32, 80, 16), (32, 3, 1), (64, 3, 1), (64, 3, 1)]:
            layers += [nn.Conv1d(channels, width, kernel, stride), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(4)]
            channels = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x):
        return self.body(x)


class Sequence(nn.Module):
    """Two layers of LSTM over sensor readings, the last state classified."""

    def __init__(self, channels=6, classes=5):
        super().__init__()
        self.lstm = nn.LSTM(channels, 48, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(48, classes)

    def forward(self, x):
        return self.classifier(self.lstm(x)[0][:, -1])


def torchvision_model(name):
    import torchvision

    return lambda: torchvision.models.get_model(name, weights=None)


def timm_model(name, **kwargs):
    import timm

    return lambda: timm.create_model(name, pretrained=False, **kwargs)


IMAGE = (3, 224, 224)
ARCHITECTURES = {
    "mobilenet_v2": (torchvision_model("mobilenet_v2"), IMAGE),
    "mobilenet_v3_small": (torchvision_model("mobilenet_v3_small"), IMAGE),
    "mobilenet_v3_large": (torchvision_model("mobilenet_v3_large"), IMAGE),
    "efficientnet_lite0": (timm_model("tf_efficientnet_lite0"), IMAGE),
    "efficientnet_lite1": (timm_model("tf_efficientnet_lite1"), (3, 240, 240)),
    "efficientnet_lite2": (timm_model("tf_efficientnet_lite2"), (3, 260, 260)),
    "efficientnet_lite3": (timm_model("tf_efficientnet_lite3"), (3, 300, 300)),
    "efficientnet_lite4": (timm_model("tf_efficientnet_lite4"), (3, 380, 380)),
    "efficientnet_b0": (torchvision_model("efficientnet_b0"), IMAGE),
    "resnet18": (torchvision_model("resnet18"), IMAGE),
    "resnet50": (torchvision_model("resnet50"), IMAGE),
    "shufflenet_v2_x1_0": (torchvision_model("shufflenet_v2_x1_0"), IMAGE),
    "squeezenet1_1": (torchvision_model("squeezenet1_1"), IMAGE),
    "mnasnet1_0": (torchvision_model("mnasnet1_0"), IMAGE),
    "densenet121": (torchvision_model("densenet121"), IMAGE),
    "regnet_y_400mf": (torchvision_model("regnet_y_400mf"), IMAGE),
    "ghostnet_100": (timm_model("ghostnet_100"), IMAGE),
    "convnext_atto": (timm_model("convnext_atto"), IMAGE),
    "convnext_tiny": (torchvision_model("convnext_tiny"), IMAGE),
    "vit_tiny_patch16_224": (timm_model("vit_tiny_patch16_224"), IMAGE),
    "deit_tiny_patch16_224": (timm_model("deit_tiny_patch16_224"), IMAGE),
    "swin_tiny": (timm_model("swin_tiny_patch4_window7_224"), IMAGE),
    "mobilevit_xs": (timm_model("mobilevit_xs"), (3, 256, 256)),
    "mobilevitv2_050": (timm_model("mobilevitv2_050"), (3, 256, 256)),
    "fastvit_t8": (timm_model("fastvit_t8"), (3, 256, 256)),
    "efficientformer_l1": (timm_model("efficientformer_l1"), IMAGE),
    "mobilenetv4_conv_small": (timm_model("mobilenetv4_conv_small"), IMAGE),
    "repvgg_a0": (timm_model("repvgg_a0"), IMAGE),
    "ds_cnn_keywords_torch": (DepthwiseKeywords, (1, 49, 10)),
    "wave_cnn": (Waveform, (1, 16000)),
    "lstm": (Sequence, (128, 6)),
}


def settle(model, shape):
    """Batch norms learn the statistics of random input, as they would in training."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    if norms:
        model.train()
        with torch.no_grad():
            model(torch.randn(4, *shape))
    return model.eval()


def export(folder, name, exporter):
    make, shape = ARCHITECTURES[name]
    torch.manual_seed(6)
    model = settle(make(), shape)
    path = folder / f"{name}.onnx"
    arguments = dict(input_names=["image"], output_names=["output"])
    if exporter == "dynamo":
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(model, (torch.randn(2, *shape),), dynamo=True, verbose=False,
                                    dynamic_shapes=({0: batch},), external_data=False, **arguments)
        program.save(str(path), external_data=False)
    else:
        torch.onnx.export(model, (torch.randn(1, *shape),), str(path), dynamo=False, opset_version=17,
                          dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}}, **arguments)
    import onnx

    written = onnx.load(path)
    return {"input": list(shape), "exporter": exporter, "opset": written.opset_import[0].version,
            "nodes": len(written.graph.node)}


def quantise(folder):
    """QDQ int8 by ONNX Runtime's own quantiser, a scale for each channel of the weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Random(CalibrationDataReader):
        def __init__(self):
            random = np.random.default_rng(6)
            self.rest = [random.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(8)]

        def get_next(self):
            return {"image": self.rest.pop()} if self.rest else None

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(folder / "mobilenet_v2.onnx"), str(prepared), skip_symbolic_shape=True)
    path = folder / "mobilenet_v2_qdq.onnx"
    quantize_static(str(prepared), str(path), Random(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    prepared.unlink()
    import onnx

    written = onnx.load(path)
    return {"input": list(IMAGE), "exporter": "onnxruntime quantize_static", "opset": written.opset_import[0].version,
            "nodes": len(written.graph.node)}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    names = sys.argv[2:] or [*ARCHITECTURES, "mobilenet_v2_qdq"]
    for name in names:
        note = folder / f"{name}.json"
        if note.exists() and (folder / f"{name}.onnx").exists():
            continue
        said = {}
        for exporter in ["onnxruntime"] if name == "mobilenet_v2_qdq" else ["dynamo", "torchscript"]:
            try:
                said = quantise(folder) if exporter == "onnxruntime" else export(folder, name, exporter)
                break
            except Exception as error:  # the next exporter may do it
                said = {"error": f"{exporter}: {type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        note.write_text(json.dumps(said) + "\n")
        print(name, said, flush=True)


if __name__ == "__main__":
    main()
