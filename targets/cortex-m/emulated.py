"""The firmware on QEMU's boards, and the command that talks to it. For the scripts beside it."""

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FIELDTUNE = BUILT / "release/fieldtune"
MACHINES = {
    "mps2-an386": "Cortex-M4F",
    "mps2-an500": "Cortex-M7",
    "mps2-an505": "Cortex-M33",
    "mps3-an547": "Cortex-M55",
}
PATIENCE_SECONDS = 120


class Failed(Exception):
    """What does not hold."""


def run(*arguments: object) -> str:
    command = [str(argument) for argument in (FIELDTUNE, *arguments)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join(command)}` hangs") from None
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ends with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def board(machine: str):
    """The firmware on an emulated board: the path of its serial port, and how to reset it."""
    program = BUILT / "firmware" / machine / "fieldtune-firmware"
    qemu = subprocess.Popen(
        ["qemu-system-arm", "-M", machine, "-display", "none", "-serial", "pty", "-monitor", "stdio",
         "-kernel", str(program)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    try:
        heard, end = "", time.monotonic() + 30
        while (found := re.search(r"/dev/pts/\d+", heard)) is None:
            ready, _, _ = select.select([qemu.stdout], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(qemu.stdout.fileno(), 4096).decode(errors="replace") if ready else ""
            if not piece:
                raise Failed(f"qemu-system-arm names no serial port: {heard.strip()}")
            heard += piece

        def reset() -> None:
            qemu.stdin.write("system_reset\n")
            qemu.stdin.flush()
            time.sleep(0.5)

        yield found.group(), reset
    finally:
        qemu.send_signal(signal.SIGKILL)
        qemu.wait()


def accuracy(predictions: list[dict]) -> float:
    """The share of files labelled with the name of their folder."""
    right = [pathlib.Path(it["file"]).parent.name == it["label"] for it in predictions]
    return sum(right) / len(right)


def build(machines: list[str]) -> None:
    """The firmware for some machines, and the command."""
    subprocess.run([HERE / "build-firmware", *machines], check=True, stdout=subprocess.DEVNULL)
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--workspace", "--bin", "fieldtune"]
    subprocess.run(command, cwd=ROOT, check=True)
