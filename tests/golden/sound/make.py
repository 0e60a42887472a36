"""Writes 20 small recordings, and what librosa makes of them.

    python make.py      (with requirements.txt installed)

`recordings/*` are sweeps, bursts of noise, clicks and harmonic tones in every format, of
several rates, depths and numbers of channels. `golden.json` says for each how its spectrogram
was made (the keys of a manifest's `[sound.spectrum]`) and where its values begin in
`golden.f32`: ln(mel + floor), `[frames, bands]`, little-endian. The recordings are computed
from the formulas here and have the licence of this repository.
"""
import json
import pathlib

import librosa
import numpy as np
import soundfile

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "recordings"


def signal(kind, rate, seconds):
    t = np.arange(int(rate * seconds)) / rate
    random = np.random.default_rng(len(kind) + rate)
    if kind == "sweep":
        return 0.6 * np.sin(2 * np.pi * (200 * t + 0.5 * 0.35 * rate / seconds * t * t))
    if kind == "bursts":
        return 0.5 * random.uniform(-1, 1, len(t)) * (np.sin(2 * np.pi * 25 * t) > 0)
    if kind == "clicks":
        out = 0.01 * random.uniform(-1, 1, len(t))
        out[:: rate // 40] += 0.8
        return out
    tones = [np.sin(2 * np.pi * 180 * k * t + k) / k for k in range(1, 12)]
    return 0.3 * sum(tones) * np.exp(-4 * t / seconds) + 0.002 * random.uniform(-1, 1, len(t))


# Name, format, how samples are coded, rate in Hz, channels, signal.
RECORDINGS = [
    ("a.wav", "WAV", "PCM_16", 8000, 1, "sweep"),
    ("b.wav", "WAV", "PCM_16", 16000, 1, "harmonic"),
    ("c.wav", "WAV", "PCM_24", 44100, 2, "bursts"),
    ("d.wav", "WAV", "PCM_U8", 11025, 1, "harmonic"),
    ("e.wav", "WAV", "FLOAT", 22050, 2, "clicks"),
    ("f.wav", "WAV", "PCM_32", 16000, 1, "clicks"),
    ("g.wav", "WAV", "DOUBLE", 8000, 1, "bursts"),
    ("h.wav", "WAV", "PCM_16", 48000, 1, "sweep"),
    ("i.flac", "FLAC", "PCM_16", 16000, 1, "sweep"),
    ("j.flac", "FLAC", "PCM_24", 44100, 2, "harmonic"),
    ("k.flac", "FLAC", "PCM_16", 8000, 1, "bursts"),
    ("l.flac", "FLAC", "PCM_16", 22050, 4, "clicks"),
    ("m.flac", "FLAC", "PCM_16", 32000, 1, "harmonic"),
    ("n.ogg", "OGG", "VORBIS", 16000, 1, "sweep"),
    ("o.ogg", "OGG", "VORBIS", 44100, 2, "bursts"),
    ("p.ogg", "OGG", "VORBIS", 22050, 1, "harmonic"),
    ("q.ogg", "OGG", "VORBIS", 8000, 1, "clicks"),
    ("r.mp3", "MP3", "MPEG_LAYER_III", 16000, 1, "sweep"),
    ("s.mp3", "MP3", "MPEG_LAYER_III", 44100, 2, "harmonic"),
    ("t.mp3", "MP3", "MPEG_LAYER_III", 22050, 1, "bursts"),
]

# Window and step in ms, transform, bands, mel scale, equal area, magnitude, centred, floor.
WAYS = [
    (32, 10, 1024, 40, "htk", False, False, True, 1e-8),
    (25, 10, 2048, 64, "slaney", True, False, True, 1e-6),
    (30, 20, 2048, 40, "htk", False, True, False, 1e-6),
    (20, 10, 1024, 26, "slaney", False, False, False, 1e-6),
]


def spectrum(way, rate):
    window_ms, step_ms, fft, bands, mel, equal_area, magnitude, centred, floor = way
    return {
        "sample_rate_hz": rate,
        "window_samples": min(rate * window_ms // 1000, fft),
        "step_samples": rate * step_ms // 1000,
        "fft_samples": fft,
        "bands": bands,
        "lowest_hz": 20.0,
        "highest_hz": rate * 0.45,
        "mel": mel,
        "equal_area": equal_area,
        "magnitude": magnitude,
        "centred": centred,
        "floor": floor,
    }


def log_mel(samples, how):
    """[frames, bands] by librosa."""
    window, fft = how["window_samples"], how["fft_samples"]
    if not how["centred"]:
        # librosa begins with a whole transform; ours with the window, in its middle.
        before = (fft - window) // 2
        samples = np.pad(samples, (before, fft - window - before))
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=how["sample_rate_hz"],
        n_fft=fft,
        win_length=window,
        hop_length=how["step_samples"],
        center=how["centred"],
        pad_mode="constant",
        power=1.0 if how["magnitude"] else 2.0,
        n_mels=how["bands"],
        fmin=how["lowest_hz"],
        fmax=how["highest_hz"],
        htk=how["mel"] == "htk",
        norm="slaney" if how["equal_area"] else None,
        dtype=np.float64,
    )
    return np.log(mel + how["floor"]).T


def main():
    FOLDER.mkdir(exist_ok=True)
    values, cases = [], []
    for index, (name, kind, subtype, rate, channels, sound) in enumerate(RECORDINGS):
        seconds = 0.12 if rate * channels > 44100 else 0.24
        mono = signal(sound, rate, seconds)
        # Channels differ, and their mean is what counts.
        parts = [mono * (0.5 + 0.5 * c / channels) for c in range(channels)]
        path = FOLDER / name
        soundfile.write(path, np.stack(parts, 1), rate, format=kind, subtype=subtype)
        read, found = soundfile.read(path, dtype="float64", always_2d=True)
        assert found == rate
        how = spectrum(WAYS[index % len(WAYS)], rate)
        if kind == "MP3":
            # Decoders round in the last bits of 16, which shows 50 dB below full scale.
            how["floor"] = 1e-4
        golden = log_mel(read.mean(axis=1), how)
        cases.append({
            "file": name,
            "spectrum": how,
            "samples": len(read),
            "frames": len(golden),
            "from": sum(len(part) for part in values),
        })
        values.append(golden.astype("<f4").ravel())
    np.concatenate(values).tofile(HERE / "golden.f32")
    versions = {"librosa": librosa.__version__, "soundfile": soundfile.__version__}
    text = json.dumps({"versions": versions, "cases": cases}, indent=1)
    (HERE / "golden.json").write_text(text + "\n")


main()
