"""A saved model, loaded in a process of its own that knows nothing of the cohort."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LOAD = """
import json, sys
from importlib import import_module
import torch
module, _, name = sys.argv[3].rpartition(".")
model = getattr(import_module(module), name).from_pretrained(sys.argv[1])
values = json.load(open(sys.argv[2]))
torch.manual_seed(0)
with torch.no_grad():
    print(json.dumps(model.predict(model.inputs.batch(values)).tolist()))
"""


def predicted_elsewhere(model: Path, values: Mapping[str, Any], place: Path, by: str = "cm2.methods.Method") -> Tensor:
    """What a saved model predicts in a fresh process; what is missing is drawn with seed 0.

    Args:
        model: its folder.
        values: by modality, in their own units.
        place: folder in which the process runs, and in which its input is written.
        by: the class whose ``from_pretrained`` loads it.
    """
    file = place / "values.json"
    file.write_text(json.dumps(values))
    words = [sys.executable, "-c", LOAD, str(model), str(file), by]
    done = subprocess.run(words, capture_output=True, text=True, cwd=place, timeout=600)
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(done.stdout))
