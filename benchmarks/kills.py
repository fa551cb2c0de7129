"""Kill a sweep with SIGKILL at seeded random moments, resume it, and compare it with an undisturbed one.

Run ``.venv/bin/python benchmarks/kills.py``: twenty kills (``--kills``), spread over sweeps of both engines until each
is complete. Exits with 1 if a run is lost, is there twice, or differs by a byte.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from borngap.sweep.sweepfolder import SWEEP_FILE, read_sweep

START = "import torch; torch.set_num_threads(1); from borngap.sweep import engines; engines.GROUP = 4; "
PROGRAM = START + "from borngap.cli import main; main()"


def command(out: Path, engine: str) -> list[str]:
    """Return the command of a sweep of 20 runs."""
    sweep = f"sweep -m docs-gpt2-s -c docs10 --lrs 1e-3,4e-3 --steps 4 --engine {engine} -o {out}"
    return [sys.executable, "-c", PROGRAM, *sweep.split()]


def finished(out: Path) -> int:
    """Return how many runs are safely written."""
    return len(read_sweep(out).finished) if (out / SWEEP_FILE).exists() else 0


def kill_once(out: Path, engine: str, wait: float) -> bool:
    """Start or resume a sweep and kill it so long after its first new file; whether it was still running."""
    before = finished(out)
    process = subprocess.Popen(command(out, engine), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and finished(out) == before:
        time.sleep(0.005)
    time.sleep(wait)
    process.kill()
    return process.wait() != 0


def same(left: Path, right: Path) -> bool:
    """Whether both sweeps hold every run once, with equal bytes."""
    numbers = read_sweep(left).runs["run"].to_list()
    return numbers == list(range(20)) and all(
        (left / name).read_bytes() == (right / name).read_bytes() for name in ("runs.json", "steps.parquet")
    )


def main() -> None:
    """Kill, resume, compare, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moment, kills, sweeps = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for engine in ("sequential", "stacked"):
            subprocess.run(command(Path(folder, engine), engine), check=True, stdout=subprocess.DEVNULL)
        while kills < options.kills:
            engine = ("sequential", "stacked")[sweeps % 2]
            out, sweeps = Path(folder, f"killed{sweeps}"), sweeps + 1
            while kills < options.kills and finished(out) < 20:
                hit = kill_once(out, engine, moment.uniform(0, 0.8))
                kills += hit
                print(f"{engine}: kill {kills}, {finished(out)} of 20 runs kept", flush=True)
            subprocess.run(command(out, engine), check=True, stdout=subprocess.DEVNULL)
            if not same(out, Path(folder, engine)):
                sys.exit(f"{out} differs from the undisturbed sweep")
    print(f"{kills} kills in {sweeps} sweeps: every run once, all bytes equal")


if __name__ == "__main__":
    main()
