"""Content-addressed run store: each configuration is trained at most once; writes are atomic."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from joblib import delayed
from safetensors.torch import save_model

from cm2.cohorts import Cohort, Stays, load_cohort
from cm2.config import Config
from cm2.config.checks import positive
from cm2.durable import Lock, file_sha256, move, replaced, set_aside, write_json, write_text
from cm2.errors import DivergedError, InputError
from cm2.methods import METHODS, Method, parts_from_outside, starts_from, tokenised
from cm2.methods.contract import FitsStays
from cm2.methods.saved import TOKENIZER
from cm2.parts import carried, receive
from cm2.progress import Progress
from cm2.results import home
from cm2.runs.description import describe, tokenizer_file
from cm2.runs.provenance import provenance
from cm2.runs.run import CHECKSUMS, PREDICTS, PRETRAINING, REMEDY, WEIGHTS, Run, kept_epochs
from cm2.runs.saving import MODEL
from cm2.runs.start import ONE_AT_A_TIME, start
from cm2.tasks import Task

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger


class RunStore:
    """Runs by the hash of (configuration, cohort, method version).

    A run is computed in a hidden folder, which is renamed when the run is complete. A killed run leaves its checkpoints there, from
    which the next call continues.

    Args:
        root: folder of the store; default ``home() / "runs"``.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else home() / "runs"

    def __getstate__(self) -> dict[str, Any]:
        """For a process elsewhere, whose working folder is another, and which knows of no part that was defined here."""
        return {"root": self.root.absolute(), "parts": carried()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        receive(state["parts"])
        self.root = state["root"]

    def key(self, config: Config, cohort: Cohort) -> str:
        """Key of the run, 16 hexadecimal digits: configuration, cohort, version of the method; pretrained weights and parts from outside.

        Of a task that is not binary its settings as well, such as the edges of intervals of time.

        Raises:
            ValueError: pretrained weights that are neither on this machine nor reachable, or a task that the cohort lacks.
        """
        method = METHODS[config.method].version if config.method in METHODS else ""
        further = "".join(f" {name} {digest}" for name, digest in starts_from(config, cohort).items())
        further += "".join(f" {name} {part}" for name, part in parts_from_outside(config, cohort).items())
        task = cohort.task(config.task).identity
        text = f"{config.digest()} {cohort.checksum} {method}{further}{f' {task}' if task else ''}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def find(self, config: Config, cohort: Cohort) -> Run | None:
        """The stored run, or None. A damaged one is set aside, with a warning: it is to be trained again."""
        run = Run(self.root / self.key(config, cohort))
        if run.path.is_dir() and (why := run.damage()):
            set_aside(run.path, why)
        return run if run.path.is_dir() else None

    def with_weights_of(self, config: Config, cohort: Cohort, complete: bool) -> Run | None:
        """A stored run that was trained as this configuration would be, and differs only in what the test reads, or None.

        Args:
            config: of a run.
            cohort: its cohort.
            complete: see `cm2.config.Config.in_training`.
        """
        wanted = config.in_training(complete)
        found = (run for run, own in self._of_this_version(cohort) if own.in_training(complete) == wanted)
        return next((run for run in found if not run.damage()), None)

    def _of_this_version(self, cohort: Cohort) -> Iterator[tuple[Run, Config]]:
        """Runs on a cohort by this version of their method; a run that cannot be read is no reason not to train another."""
        for run in self.runs():
            try:
                config = run.config
                same = self.key(config, cohort) == run.path.name
            except (OSError, ValueError, TypeError, AttributeError):
                continue
            if same:
                yield run, config

    def _copy_pretraining(self, config: Config, cohort: Cohort, complete: bool, folder: Path) -> None:
        """Takes the pre-training over from a stored run that differs in the known outcomes alone: the trainer goes on from its end."""
        wanted = config.in_pretraining(complete)
        for run, trained in self._of_this_version(cohort):
            states, own = (path / "checkpoints" / PRETRAINING for path in (run.path, folder))
            if states.is_file() and trained.in_pretraining(complete) == wanted:
                with replaced(own) as part:
                    shutil.copyfile(states, part)
                return

    def runs(self) -> list[Run]:
        """All finished runs, oldest first."""
        folders = [p for p in self.root.glob("*") if p.is_dir() and not p.name.startswith(".")]
        return [Run(p) for p in sorted(folders, key=lambda p: p.stat().st_mtime)]

    def fit(
        self,
        config: Config,
        cohort: Cohort,
        progress: bool = True,
        devices: int = 1,
        loggers: Sequence[Logger] = (),
        callbacks: Sequence[Callback] = (),
    ) -> Run:
        """Returns the stored run of a configuration, or trains it.

        Weights are taken from a stored run that would be trained in the same way (`with_weights_of`), so that a network is trained once
        and tested under many settings; ``environment.json`` then names it. Training and validation stays determine the weights; the test
        stays are predicted once, at the end. Loggers and callbacks watch the training, and hear nothing where there is none; see `fit`.
        """
        positive(devices=devices)
        if loggers or callbacks:  # Lightning takes seconds to import
            from cm2.runs.watching import check

            check(loggers, callbacks)
        key = self.key(config, cohort)
        self.root.mkdir(parents=True, exist_ok=True)
        name = f"training {config.method} seed {config.seed}"
        with Progress(name, show=progress) as shown, Lock(self.root / f".{key}.lock"), ONE_AT_A_TIME:
            if (run := self.find(config, cohort)) is None:
                try:
                    run = self._compute(config, cohort, key, shown, {"devices": devices, "loggers": loggers, "callbacks": callbacks})
                except DivergedError:  # from its checkpoint it would go on to the same end
                    shutil.rmtree(self.root / f".{key}.partial", ignore_errors=True)
                    raise
        return run

    def _compute(self, config: Config, cohort: Cohort, key: str, progress: Progress, options: Mapping[str, Any]) -> Run:
        started, folder = time.monotonic(), self.root / f".{key}.partial"
        cohort, method, stays = start(config, cohort)
        complete = all(bool(stays[name].present.all()) for name in ("train", "valid"))
        # of two processes that need the same weights the second waits for the first
        with Lock(self.root / f".{config.in_training(complete).digest()[:16]}.training.lock"):
            like = self.with_weights_of(config, cohort, complete)
            source = provenance(cohort) | ({} if like is None else {"weights": like.path.name})
            if method.task.identity:
                source |= {PREDICTS: method.task.described()}
            if pretrained := starts_from(config, cohort):
                source |= {"pretrained": pretrained}
            if parts := parts_from_outside(config, cohort):
                source |= {"parts": parts}
            folder.mkdir(exist_ok=True)
            write_json(folder / "config.json", config.to_dict())
            if like is None:
                # Lightning takes seconds to import: not for a call that finds its run
                from cm2.runs.trainer import train

                if (stage := method.pretraining()) is not None and not stage.reads_outcomes:
                    self._copy_pretraining(config, cohort, complete, folder)
                train(method, config, stays["train"], stays["valid"], folder, **options)
            else:
                like.load_weights(method, cohort)
                for history in like.path.glob("*.csv"):
                    shutil.copy(history, folder)
            progress.advance()  # what follows is quick
            _save(method, config, cohort, stays, folder)
            write_json(folder / "environment.json", source | {"seconds": round(time.monotonic() - started, 1)})
            try:
                cohort.check_unchanged()
                if self.key(config, cohort) != key:
                    raise InputError(f"{config.method}: a part or the pretrained weights were changed during the training; train it again")
            except ValueError:  # what was trained on, nobody knows
                shutil.rmtree(folder)
                raise
            _write_checksums(folder)
            move(folder, self.root / key)
            return Run(self.root / key)


def _save(method: Method, config: Config, cohort: Cohort, stays: Mapping[str, Stays], folder: Path) -> None:
    """Predicts validation and test stays, and writes what a run consists of besides its history.

    Of a credentialed cohort the predictions alone are exact: the folder is the user's own, but metrics are what people pass on.
    """
    from cm2.runs.trainer import predictions

    frames = {name: predictions(method, config, stays[name], progress=True) for name in ("valid", "test")}
    if not isinstance(method, FitsStays):
        _check_collapse(config, method.task, frames["valid"], Run(folder).history)
    with replaced(folder / "predictions.parquet") as part:
        pd.concat(frames, names=["split"]).reset_index("split").to_parquet(part, index=False)
    with replaced(folder / WEIGHTS) as part:
        save_model(method, str(part))
    metrics = {name: _metrics(frame, cohort, method.task, name) for name, frame in frames.items()}
    write_json(folder / "metrics.json", metrics)
    description = describe(config, cohort, method, frames["test"], stays["test"])
    write_json(folder / MODEL, description, ensure_ascii=False)
    if tokenizer := tokenizer_file(cohort, description):
        write_text(folder / TOKENIZER, tokenizer)


def _write_checksums(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".") and path.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {path.name: file_sha256(path) for path in files})


def _metrics(frame: pd.DataFrame, cohort: Cohort, task: Task, split: str) -> dict[str, Any]:
    """Metrics of predictions as far as they may be shown, also beside all stays of the split."""
    label, predicted = task.of_frame(frame)
    found, wholes = task.summary(label, predicted), (cohort.outcomes(task.name), cohort.outcomes(task.name, split))
    return cohort.disclosure.metrics(found, *wholes, smallest=task.smallest(label))


def _check_collapse(config: Config, task: Task, frame: pd.DataFrame, history: pd.DataFrame) -> None:
    """Raises DivergedError for a network that predicts the same for every stay in its best epoch: its AUROC is exactly 0.5."""
    predicted = frame[list(task.prediction_columns)]
    if len(predicted) > 1 and (predicted.nunique() == 1).all():
        from cm2.runs.loops import diverged

        epoch = int(kept_epochs(history, task).index[0]) + 1 if len(history) else 1
        raise diverged(config, epoch, f"predicted {task.quantity} of every validation stay", float(predicted.to_numpy()[0, 0]))


def fit(
    config: Config,
    cohort: Cohort | Path | str,
    store: RunStore | None = None,
    progress: bool = True,
    devices: int = 1,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
) -> Run:
    """The run of a configuration on a cohort, from the store or newly trained.

    Args:
        config: see ``Config.from_profile``.
        cohort: a prepared cohort or its folder.
        store: default ``RunStore()``.
        progress: show the progress; see ``cm2.progress``.
        devices: number of accelerators for the run (data-parallel if more than one).
        loggers: loggers of Lightning (TensorBoard, CSV, MLflow, Weights & Biases), which are told the settings and every epoch's row of the
            history. Of a credentialed cohort they get what may be shown.
        callbacks: callbacks of Lightning, which watch the training. Neither they nor the loggers enter the run's key, so a callback that
            changes what is trained is refused. A stored run is returned without a word to either.

    Raises:
        InputError: something that is no logger or callback, a callback that changes what is trained, or no device.
    """
    cohort = cohort if isinstance(cohort, Cohort) else load_cohort(cohort)
    return (store or RunStore()).fit(config, cohort, progress, devices, loggers, callbacks)


def fit_all(
    configs: Sequence[Config], cohort: Cohort, store: RunStore | None = None, jobs: int = 1, progress: bool = False, devices: int = 1
) -> list[Run]:
    """Independent runs in parallel through joblib: local processes, or the backend that the caller selects (for example Dask)."""
    store = store or RunStore()
    with Progress("", len(configs), "run", show=progress) as shown:
        return shown.parallel([delayed(store.fit)(config, cohort, devices=devices) for config in configs], jobs)


def evaluate(
    run: Run,
    cohort: Cohort,
    split: str = "test",
    absent: Mapping[str, float] | None = None,
    mechanism: str = "mcar",
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Metrics of a finished run on a split, with further modalities masked.

    Args:
        run: a finished run.
        cohort: the cohort it was trained on, or another with the same modalities.
        split: ``train``, ``valid`` or ``test``.
        absent: fraction of stays whose modality is masked, by modality.
        mechanism: ``mcar``, ``mar`` or ``mnar``.
        seed: seed of the masking.
        progress: show the progress; see ``cm2.progress``.

    Returns:
        The entries of ``metrics.json``: ``auroc``, ``auroc_low``, ``auroc_high``, ``aupr``, ..., ``n``, ``positives``; of another type of
        task its own metrics. Of a credentialed
        cohort they are rounded, or None where fewer than ten stays could be told from them.
    """
    stays, frame = predict(run, cohort, split, absent, mechanism, seed, progress)
    return _metrics(frame, cohort, stays.task, split)


def predict(
    run: Run,
    cohort: Cohort,
    split: str = "test",
    absent: Mapping[str, float] | None = None,
    mechanism: str = "mcar",
    seed: int = 0,
    progress: bool = False,
) -> tuple[Stays, pd.DataFrame]:
    """Stays of a split and what a finished run predicts of them, exact: what `evaluate` computes metrics of, whose arguments it has.

    Returns:
        The stays, and the columns of `cm2.tasks.Task.frame` in their order.
    """
    from cm2.runs.trainer import predictions

    with Progress(f"evaluating {run.config.method} seed {run.config.seed}", show=progress):
        cohort = tokenised(cohort, run.config)
        stays = cohort.split(split, run.config.task, absent, mechanism, seed, run.config.matched)
        task = cohort.task(run.config.task)
        if task.identity != run.task.identity:
            raise InputError(
                f"{run.path}: the run predicts a {run.task.type} task, {task.name} of {cohort.name} is another; give the cohort it was"
                " trained on"
            )
        if why := task.lacks(stays.label.numpy()):
            raise InputError(f"{cohort.name}: the known outcomes {task.name} of the {split} stays {why}: choose another split")
        frame = predictions(run.load_method(cohort), run.config, stays, progress=True)
        if not task.plausible(task.of_frame(frame)[1]).all():
            raise InputError(f"{run.path}: its predictions are no {run.task.range}; {REMEDY}")
        return stays, frame
