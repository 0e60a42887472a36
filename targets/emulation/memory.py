"""Peak memory of a program under QEMU's user-mode emulation, without the emulator's own.

The program's figure of itself counts the emulator, since the system knows only that. Here
the process's pages are summed but for the emulator's file, its heap and its buffer of
translated code, the one region that can be both written and executed. What the emulator
maps otherwise still counts, so the sum is an upper bound. It is taken ten times a second:
a peak that lasts less may be missed.
"""

import subprocess
import tempfile
import time


def program_bytes(process: int) -> int:
    """Resident bytes of the emulated program now; 0 when the process has ended."""
    total, region = 0, []
    try:
        with open(f"/proc/{process}/smaps") as smaps:
            for line in smaps:
                words = line.split()
                if words[0] == "Rss:" and not is_emulators(region):
                    total += int(words[1]) * 1024
                elif not words[0].endswith(":"):
                    region = words
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return total


def is_emulators(region: list[str]) -> bool:
    name = region[5] if len(region) > 5 else ""
    return region[1].startswith("rwx") or name == "[heap]" or "qemu" in name


def run(command: list[str], time_limit_seconds: float) -> tuple[str, int]:
    """Runs a command that is one emulated process; its standard output and its peak."""
    peak = 0
    end = time.monotonic() + time_limit_seconds
    # A file, since a pipe that nobody reads meanwhile would fill up.
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, text=True) as process,
    ):
        while process.poll() is None:
            peak = max(peak, program_bytes(process.pid))
            if time.monotonic() > end:
                process.kill()
                raise TimeoutError(" ".join(command))
            time.sleep(0.1)
        output.seek(0)
        printed = output.read()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed, peak
