"""The core (``cm2.copulas``, ``cm2.marginals``, ``cm2.joint``) needs torch, NumPy and SciPy, and says what else is missing."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cm2.environment.extras import modules
from tests.environment.test_extras import PROJECT, without

ROOT = Path(__file__).resolve().parents[2]
NOT_AT_IMPORT = {"scipy.optimize", "scipy.stats", "scipy.sparse", "scipy.linalg", "scipy.integrate", "torch._dynamo", "torchvision"}
"""What takes a noticeable part of the time that importing torch takes."""


def brought(names: set[str]) -> set[str]:
    """Distributions that pip installs for these here, by canonical name."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        requirements = map(Requirement, metadata.requires(name) or ())
        waiting |= {canonicalize_name(r.name) for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})} - found
    return found


@cache
def everything_else() -> frozenset[str]:
    """Import names of all that is installed here and would not be by ``pip install cm2``."""
    core = brought({canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]})
    owners = metadata.packages_distributions().items()
    return frozenset(name for name, owned in owners if name.isidentifier() and not {*map(canonicalize_name, owned)} & (core | {"cm2"}))


def test_its_dependencies_are_three():
    assert {Requirement(text).name for text in PROJECT["dependencies"]} == {"torch", "numpy", "scipy"}
    assert {"sklearn", "pandas", "lightning", "transformers", "matplotlib", "typer", "packaging"} <= everything_else()


CORE = """
import torch
from cm2.copulas import Clayton, make, select, goodness_of_fit_test
from cm2.environment.extras import MissingExtraError
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture
import cm2

torch.manual_seed(0)
law = make("gumbel", dim=2, alpha=2.0)()
u = law.sample((200,)).double()
fitted = Clayton(2)
fitted.fit(u)
ranked = select(u, families=("gumbel", "clayton"))
assert ranked.candidates[0].label.lower().startswith("gumbel"), ranked
goodness_of_fit_test(fitted, u[:40], n_bootstrap=2)
joint = CopulaJoint(make("gaussian", dim=2, rho=0.5), [GaussianMixture(2, 3), GaussianMixture(2, 3)], link="component")()
z = joint.rsample((8,))
assert joint.log_prob(z).isfinite().all()
assert joint.impute(z, torch.tensor([True, False]).expand(8, 2), 4).isfinite().all()
for call in (
    lambda: GaussianMixture(2, 3).initialise(z[:, 0]),
    lambda: ranked.table(),
    lambda: goodness_of_fit_test(fitted, u[:40], n_bootstrap=2, n_jobs=2),
    lambda: cm2.fit,
):
    try:
        call()
    except MissingExtraError as error:
        print(error)
print(cm2.__version__)
"""


def test_it_works_where_nothing_else_is_installed(tmp_path):
    done = without(everything_else(), CORE, tmp_path)
    assert done.returncode == 0, done.stderr
    *sentences, version = done.stdout.splitlines()
    assert [line.split()[4].rstrip(",") for line in sentences] == ["sklearn", "pandas", "joblib", modules()["train"][0]]
    assert all(line.endswith("pip install -e '.[train]'") for line in sentences) and version == PROJECT["version"]


def test_the_program_says_what_the_command_line_needs(tmp_path):
    code = 'import runpy; sys.argv = ["cm2", "--version"]; runpy.run_module("cm2", run_name="__main__")'
    done = without(everything_else(), code, tmp_path)
    sentence = (
        f"cm2: this needs the library {modules()['train'][0]}, which is not installed; type in the checkout: pip install -e '.[train]'\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.parametrize("module", ["cm2.copulas", "cm2.joint"])
def test_importing_it_costs_little_more_than_torch(module, tmp_path):
    """By what is imported, since a clock would measure the machine; ``python -m benchmarks.imports`` has the times."""
    code = f"import sys, torch, numpy; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    new = set(done.stdout.split())
    assert module in new and not {name for name in new if name.startswith("scipy")}, "a tenth of the time; functions import it"
    assert not {name for name in new if name in NOT_AT_IMPORT or name.split(".")[0] in everything_else() - {"charset_normalizer"}}
