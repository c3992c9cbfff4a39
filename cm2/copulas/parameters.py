"""Checks of the parameters that a distribution is built with: one clear error each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributions import constraints

from cm2.errors import InputError

_WORDS = {
    constraints.corr_cholesky: "be the Cholesky factor of a correlation matrix: lower triangular, positive diagonal, rows of norm 1; of a"
    " correlation matrix R give torch.linalg.cholesky(R)",
    constraints.positive: "be above 0",
    constraints.nonnegative: "be 0 or more",
    constraints.real: "be a number",
}


def require_tensors(law: str, **values: Any) -> None:
    """Checks that parameters are tensors, whose shape is that of the batch.

    Raises:
        ValueError: the first that is none.
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{law}: {name} is a {type(value).__name__}; give a tensor, for example torch.tensor({value!r})")


def check_parameters(law: Any, ranges: Mapping[str, constraints.Constraint]) -> None:
    """Checks parameters of a distribution against their ranges.

    Raises:
        ValueError: the first with a value outside, or NaN.
    """
    for name, constraint in ranges.items():
        value = getattr(law, name)
        inside = constraint.check(value)
        if inside.all():
            continue
        words = _WORDS.get(constraint) or f"be at least {getattr(constraint, 'lower_bound', 0):g}"
        given = value[~inside].flatten()
        shown = f"is {given[0].item():g}" if constraint.event_dim == 0 else f"has the row {value[~inside][0][-1].tolist()}"
        raise InputError(f"{type(law).__name__}: {name} {shown}; it must {words}")
