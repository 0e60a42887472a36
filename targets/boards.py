#!/usr/bin/env python3
"""Reads boards.toml for the scripts beside it and writes each board's README.md.

boards.py list              names of all boards
boards.py targets           all target triples
boards.py get NAME FIELD    one field of a board or a target
boards.py readmes           writes BOARD/README.md from boards.toml and measured/
boards.py readmes --check   fails when one of them is not what would be written
"""

import json
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
DATA = tomllib.loads((HERE / "boards.toml").read_text())
BOARDS, TARGETS = DATA["boards"], DATA["targets"]


def measured(target: str) -> dict | None:
    path = HERE / "measured" / f"{target}.json"
    return json.loads(path.read_text()) if path.exists() else None


def seconds(instructions: float, board: dict) -> str:
    value = instructions / (board["clock_ghz"] * 1e9 * board["instructions_a_cycle"])
    return f"{value:.2g} s"


def table(board: dict, counts: dict) -> list[str]:
    """Instruction counts of one thread, and seconds where the board's clock is known."""
    estimated = "clock_ghz" in board
    lines = [
        "| one thread | instructions |" + (" about |" if estimated else ""),
        "|---|---|" + ("---|" if estimated else ""),
    ]
    for name, count in counts["instructions"].items():
        line = f"| {name} | {count / 1e6:,.0f} M |"
        if estimated:
            line += f" {seconds(count, board)} |"
        lines.append(line)
    return lines


def steps(name: str, target: str) -> list[str]:
    """From a laptop, and on the board itself."""
    packages = ["gcc", *TARGETS[target]["packages"].split(), "python3", "qemu-user-static"]
    return [
        "## From a laptop",
        "",
        "In a checkout of the source, on Debian or Ubuntu with Rust from rustup:",
        "",
        f"    sudo apt-get install {' '.join(dict.fromkeys(packages))}",
        f"    rustup target add {target}",
        f"    targets/build-board {name}",
        f"    targets/run-emulated {name} doctor",
        f"    scp target/boards/{name}/fieldtune USER@BOARD:",
        "    ssh USER@BOARD ./fieldtune demo",
        "",
        "The fourth line tries the program on the laptop. `USER` and `BOARD` are the name you log in"
        " with and the board's name or address in your network. Nothing has to be installed on the board.",
        "",
        "## On the board",
        "",
        "    ./fieldtune doctor",
        "    ./fieldtune train samples/ -o mine.head",
        "    ./fieldtune predict mine.head photo.jpg",
        "",
        "`samples/` holds one folder a class. `plan samples/` says beforehand what memory and time"
        " training takes.",
        "",
    ]


def readme(name: str, board: dict) -> str:
    target = board["target"]
    built = TARGETS[target]
    lines = [
        f"# {board['title']}",
        "",
        "Written by `targets/boards.py readmes`; change `boards.toml` instead. How to build, copy"
        " and run on any board stands in [targets/README.md](../README.md).",
        "",
        "| | |",
        "|---|---|",
        f"| processor | {board['processor']}" + (f", {board['clock_ghz']} GHz" if "clock_ghz" in board else "") + " |",
        f"| memory | {board['memory']} |",
        f"| target triple | `{target}`, linked statically |",
        f"| CPU flags | {built['flags'] or 'none'} |",
        f"| linker | `{built['compiler']}` (`apt-get install {built['packages']}`) |",
        f"| emulator | `{board['emulator']}` |",
        "",
    ]
    if "note" in board:
        lines += [board["note"], ""]
    lines += steps(name, target)
    lines += ["## Measured under emulation", ""]
    counts = measured(target)
    if counts is None:
        lines += ["Nothing yet.", ""]
    else:
        lines += table(board, counts)
        peak = f"{counts['peak_bytes'] / 1e6:.0f} MB"
        lines += [
            "",
            f"With {counts['measured']['emulator']}, by `targets/measure`, one set of figures for all"
            f" boards of `{target}`. Training makes six views of a picture (`--views`), each of which"
            " costs what labelling one does.",
            "",
            f"The program has {counts['program_bytes'] / 1e6:.1f} MB. Peak memory of training on"
            f" {counts['samples']} pictures, one thread: {peak} (an upper bound, see"
            " [memory.py](../emulation/memory.py)). Each further thread adds to that; `plan` says how much.",
            "",
        ]
        if "clock_ghz" in board:
            lines += [
                f"The seconds are an **estimate**, of one core: {board['clock_ghz']} GHz as published, and"
                f" {board['instructions_a_cycle']} instructions a cycle, which is assumed. No real"
                " board was tried. Pictures go to all cores at once.",
                "",
            ]
    return "\n".join(lines)


def write_readmes(check: bool) -> int:
    stale = 0
    for name, board in BOARDS.items():
        path = HERE / name / "README.md"
        wanted = readme(name, board)
        if path.exists() and path.read_text() == wanted:
            continue
        if check:
            print(f"{path} is not what boards.toml says: run targets/boards.py readmes", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted)
    return stale


def main(arguments: list[str]) -> int:
    match arguments:
        case ["list"]:
            print("\n".join(BOARDS))
        case ["targets"]:
            print("\n".join(TARGETS))
        case ["get", name, field]:
            value = {**BOARDS, **TARGETS}.get(name, {}).get(field)
            if value is None:
                print(f"boards.toml has no {field} of {name}; boards are {' '.join(BOARDS)}", file=sys.stderr)
                return 2
            print(value)
        case ["readmes"]:
            return write_readmes(check=False)
        case ["readmes", "--check"]:
            return write_readmes(check=True)
        case _:
            print(__doc__.strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
