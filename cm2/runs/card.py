"""A model card: what a saved model was trained on, how good it is, what it is for and what not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cm2.cohorts.disclosure import FABRICATED, SMALLEST
from cm2.escape import markdown
from cm2.methods.saved import LOADER
from cm2.tasks import task_of

_USE = """## Intended use

Research on learning from several modalities of which some are missing: comparison of methods, transfer to similar data, teaching.

## What it must not be used for

* No decision about a patient: it is not a medical device, nobody has validated it prospectively, and its predictions are calibrated for no
  other population. `cm2 evaluate RUN --cohort DIR --calibration` shows how far its run's are, on the test stays of a cohort.
* No attempt to find out who the training stays belong to, or whether somebody was among them.
* No outcome, modality or unit other than those below: the model cannot tell that it is given something else.
"""
_CREDENTIALED = f"""## Disclosure

The training data are under a data use agreement. This folder holds weights, settings and aggregates of them: no identifier, date or text of
a stay, and no vocabulary that comes from the stays' texts. Groups of fewer than {SMALLEST} stays, or of fewer than {SMALLEST} with either
outcome, are not described, and metrics are rounded. Weights may still keep something of single training stays. Share the model only
with people who are bound by the same agreement, where the agreement says so: of PhysioNet's credentialed data, as a project with
credentialed access there, not on a public hub.
"""
_OPEN = """## Disclosure

The training data are open; their own licence and citation apply.
"""
_LOAD = """## How to load it

```python
from cm2.methods import Method

model = {loader}("FOLDER or ID")
batch = model.inputs.batch({{{values}}})  # in the units below; a modality that is left out is missing
prediction = model.predict(batch)  # {quantity} of each stay
```
"""


def card(description: Mapping[str, Any], metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """The text of the card.

    Args:
        description: see `cm2.runs.description.describe`.
        metrics: of the run, by split; guarded.
        environment: provenance of the run.
    """
    cohort, task = description["cohort"], description["task"]
    values = ", ".join(f'"{m["name"]}": ...' for m in description["modalities"])
    parts = [
        _front(description),
        f"# {markdown(description['method'])} for {markdown(task['name'])}",
        f"Predicts {markdown(task['name'])} ({markdown(task['description'])}). Trained with cm2 {markdown(description['cm2'])}, seed "
        f"{description['config']['seed']}, on {markdown(str(environment.get('date', '')))}.",
        *([f"**{FABRICATED}**"] if cohort["fabricated"] else []),
        _data(description),
        _quality(description, metrics),
        _USE,
        _CREDENTIALED if cohort["credentialed"] else _OPEN,
        _LOAD.format(loader=LOADER.removeprefix("cm2.methods."), values=values, quantity=task_of(task["name"], task).quantity),
        _built(description),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _front(description: Mapping[str, Any]) -> str:
    """What the model hub reads."""
    tags = ["cm2", "multimodal", "missing-modalities", *(["credentialed-data"] if description["cohort"]["credentialed"] else [])]
    return "\n".join(["---", "library_name: cm2", "tags:", *(f"- {tag}" for tag in tags), "---"])


def _data(description: Mapping[str, Any]) -> str:
    cohort = description["cohort"]
    rows = [
        f"| {markdown(m['name'])} | {m['kind']} | {'×'.join(map(str, m['shape']))} | "
        f"{markdown(', '.join(m['features'][:8]))}{', …' if len(m['features']) > 8 else ''} |"
        for m in description["modalities"]
    ]
    tokenizer = description.get("tokenizer")
    tokens = f"Tokens come from {markdown(tokenizer['origin'])}, at most {tokenizer['max_length']} of a document." if tokenizer else ""
    return "\n".join(
        [
            "## Data",
            "",
            f"Cohort {markdown(cohort['name'])}, version {markdown(str(cohort['version']))}: {markdown(str(cohort['source']))}",
            "",
            "| modality | kind | shape | features |",
            "|---|---|---|---|",
            *rows,
            *(["", tokens] if tokens else []),
        ]
    )


def _quality(description: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    names = [name for name in metrics["test"] if name not in ("n", "positives") and not name.endswith(("_low", "_high"))]
    lines = [
        "## Quality on the test stays",
        "",
        f"| observed modalities | stays | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
        _row("all stays", metrics["test"]["n"], metrics["test"], names),
    ]
    lines += [_row(" + ".join(group["observed"]), group["n"], group["metrics"], names) for group in description["patterns"]]
    return "\n".join(lines)


def _row(label: str, n: int | None, metrics: Mapping[str, Any], names: list[str]) -> str:
    shown = ["hidden" if (value := metrics.get(name)) is None else f"{value:.3f}" for name in names]
    return f"| {markdown(label)} | {'hidden' if n is None else f'{n:,}'} | {' | '.join(shown)} |"


def _built(description: Mapping[str, Any]) -> str:
    lines = ["## What it is built of", "", f"Method {markdown(description['method'])}, version {markdown(description['method_version'])}."]
    law = description["law"]
    lines.append(
        f"It {markdown(law['none'])}."
        if law["none"]
        else f"Joint distribution: link {law['link']}, copula family {markdown(law['family'])}."
    )
    for what, entries in (("Starts from", description["pretrained"]), ("From outside the package", description["parts"])):
        lines += [f"{what}: {markdown(name)}: {markdown(value)}." for name, value in entries.items()]
    return "\n".join([*lines, "", "All settings are in config.json."])
