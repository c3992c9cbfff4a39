"""Peak memory of reading and of training by the number of stays, with images: 1, 3 and 10 times as many, and 100,000 small ones.

python -m benchmarks.memory --out benchmarks/results/memory.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._timing import arguments, report
from cm2.durable import new_array
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

MEASURED = """
import json, re, sys, threading, time
from pathlib import Path
import torch
from cm2 import Config, RunStore, load_cohort
from cm2.methods import tokenised
from cm2.runs.batches import loader
said = lambda name: int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
peak = lambda: said("VmHWM")  # getrusage counts the parent's too
own = [0.0]
def watch():  # the kernel keeps no peak of what is not mapped from files, whose pages it takes back where memory is short
    while True:
        own[0] = max(own[0], said("RssAnon"))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
torch.set_num_threads(1)
settings = {"method": "late_fusion", "task": "death", "train.epochs": 1, "train.batch_size": 64, "encoder.text.max_length": 64}
config = Config.from_profile("smoke", settings)
from cm2.runs.trainer import train  # what the imports take is no memory of the stays
before = peak()
cohort = load_cohort(sys.argv[1])
opened = peak()
tokens = tokenised(cohort, config)
for split in ("train", "valid", "test"):
    for batch in loader(tokens.split(split, "death"), config.train, 0, shuffle=True):
        pass
read, read_own = peak(), own[0]
if sys.argv[2] == "train":
    RunStore(sys.argv[3]).fit(config, cohort, progress=False)
trained = (peak(), own[0]) if sys.argv[2] == "train" else (None, None)
names = ("imported", "opened", "read", "read, own", "trained", "trained, own")
print(json.dumps(dict(zip(names, (before, opened, read, read_own, *trained), strict=True))))
"""


def write(folder: Path, stays: int, side: int) -> Path:
    """A cohort with an image, a series, a vector and a text for every stay."""
    rng = np.random.default_rng(0)
    images = new_array(folder / "images.npy", np.uint8, (stays, side, side))
    for start in range(0, stays, 1000):
        images[start : start + 1000] = rng.integers(0, 256, size=images[start : start + 1000].shape, dtype=np.uint8)
    words = np.array([f"word{k}" for k in range(300)])
    texts: list[str | None] = [" ".join(words[rng.integers(0, len(words), size=60)]) for _ in range(stays)]
    everyone, label = np.ones(stays, dtype=bool), rng.integers(0, 2, size=stays)
    split = np.array(["train", "train", "train", "valid", "test"])[np.arange(stays) % 5]
    series = rng.normal(size=(stays, 24, 8)).astype(np.float32)
    modalities = {
        "image": PreparedModality("image", images, everyone),
        "series": PreparedModality("series", series, everyone, [f"f{k}" for k in range(8)], ["1"] * 8),
        "vector": PreparedModality("vector", series[:, 0], everyone, [f"f{k}" for k in range(8)], ["1"] * 8),
        "note": PreparedModality("text", texts, everyone),
    }
    frame = pd.DataFrame({"stay_id": np.arange(stays), "split": split, "death": label})
    made = PreparedCohort("large", "made up", "1", {}, frame, modalities, {"death": "made up"}, [], {}, credentialed=False)
    return write_cohort(folder / "cohort", made)


def measured(stays: int, side: int, trained: bool) -> dict[str, Any]:
    """A line of the table: peaks in MiB of a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        cohort = write(Path(place), stays, side)
        command = [sys.executable, "-c", MEASURED, str(cohort), "train" if trained else "read", f"{place}/runs"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = sum(path.stat().st_size for path in cohort.rglob("*")) / 2**20
    more = {f"{what}, MiB": value for what, value in found.items()}
    return {"stays": stays, "side of an image": side, "on disk, MiB": size, **more}


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=1)
    parser.add_argument("--stays", type=int, default=2000, help="stays of the smallest cohort (default %(default)s)")
    parser.add_argument("--side", type=int, default=224, help="side of its images in pixels (default %(default)s)")
    parser.add_argument("--small", type=int, default=100_000, help="stays with images of 32 pixels (default %(default)s)")
    parser.add_argument("--train", action="store_true", help="also train one epoch, which takes long")
    options = parser.parse_args()
    rows = [measured(options.stays * times, options.side, options.train) for times in (1, 3, 10)]
    if options.small:
        rows.append(measured(options.small, 32, options.train))
    note = (
        "Peaks of one process: after its imports, when the cohort is open and verified, after a pass over all batches, after a run of one "
        "epoch with its evaluation. What is its own leaves out pages of files, which the system takes back where memory is short."
    )
    report("Peak memory by the number of stays", rows, options, note)


if __name__ == "__main__":
    main()
