"""One training epoch of CM² on the synthetic cohort: samples per second and where the time goes.

python -m benchmarks.training_epoch --profile quick --out benchmarks/results/training_epoch.json
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from benchmarks._timing import arguments, report
from cm2.cohorts import Cohort, load_cohort
from cm2.config import Config
from cm2.methods import build_method
from cm2.runs.batches import loader
from cm2.runs.loops import TrainingLoop
from cm2.runs.trainer import INITIAL_STAYS
from data_prep import prepare_synthetic


class Epoch:
    """Passes over the training stays with a clock at every stage.

    Args:
        config: of the run.
        cohort: prepared.
        device: of the model.
    """

    stages = ("gather", "forward", "backward", "optimiser")

    def __init__(self, config: Config, cohort: Cohort, device: str) -> None:
        self.device = device
        self.stays = cohort.split("train", config.task, absent=config.absent, seed=config.seed)
        self.batches = loader(self.stays, config.train, config.seed, shuffle=True)
        self.method = build_method(config, cohort).to(device)
        self.method.initialise(self.stays.batch(list(range(min(INITIAL_STAYS, len(self.stays))))).to(device))
        self.optimiser = TrainingLoop(self.method, config).configure_optimizers()

    def run(self) -> dict[str, float]:
        """Seconds by stage of one pass."""
        seconds: dict[str, float] = defaultdict(float)
        start = time.perf_counter()
        for batch in self.batches:
            batch = batch.to(self.device)
            start = self._lap(seconds, "gather", start)
            self.optimiser.zero_grad()
            loss = self.method.loss(batch)["loss"]
            start = self._lap(seconds, "forward", start)
            loss.backward()
            start = self._lap(seconds, "backward", start)
            self.optimiser.step()
            start = self._lap(seconds, "optimiser", start)
        return dict(seconds)

    def law(self) -> float:
        """Seconds of one pass through the law of the embeddings alone, forward and backward: the cost of the alignment."""
        total = 0.0
        for batch in self.batches:
            batch = batch.to(self.device)
            with torch.no_grad():
                z, present = self.method.embed(batch)
            z.requires_grad_()
            self._wait()
            start = time.perf_counter()
            marginal, dependence = self.method.joint(validate_args=False).terms(z, present)
            (torch.where(present, marginal, 0).sum() + dependence.sum()).backward()
            self._wait()
            total += time.perf_counter() - start
        return total

    def _lap(self, seconds: dict[str, float], stage: str, start: float) -> float:
        self._wait()
        now = time.perf_counter()
        seconds[stage] += now - start
        return now

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.accelerator.synchronize()


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=3)
    parser.add_argument("--profile", default="quick", help="profile of the run (default %(default)s)")
    parser.add_argument("--stays", type=int, default=2000, help="stays of the cohort (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = Config.from_profile(options.profile)
    with tempfile.TemporaryDirectory() as folder:
        cohort = load_cohort(prepare_synthetic(Path(folder) / "synthetic", stays=options.stays, seed=0))
        epoch = Epoch(config, cohort, options.device)
        epoch.run()
        passes = [epoch.run() for _ in range(options.repeats)]
        law = statistics.median(epoch.law() for _ in range(options.repeats))
    whole = statistics.median(sum(p.values()) for p in passes)
    rows = [{"stage": "epoch", "median s": whole, "share": 1.0, "samples/s": len(epoch.stays) / whole}]
    for stage in Epoch.stages:
        seconds = statistics.median(p[stage] for p in passes)
        rows.append({"stage": stage, "median s": seconds, "share": seconds / whole, "samples/s": len(epoch.stays) / seconds})
    rows.append(
        {"stage": "law alone (in forward and backward)", "median s": law, "share": law / whole, "samples/s": len(epoch.stays) / law}
    )
    note = f"{len(epoch.stays)} training stays of {options.stays}, profile {options.profile}, batch {config.train.batch_size}."
    report("Training epoch on the synthetic cohort", rows, options, note)


if __name__ == "__main__":
    main()
