"""Assertions of the chapters, with tolerances and informative failures: the values, the bound and the machine.

Two ways of computing a number agree only up to rounding, and rounding differs between processors: a check therefore states its tolerance.
For an average over draws the tolerance follows from the standard error, such that a true claim fails by chance less than once in a million
builds of the book.

So a bound with a standard error guards a claim about an *expectation*: it fails where the draws contradict the claim, and passes where they
decide nothing, as -0.5 with a standard error of 0.1 is above 0. It does not show that the value lies on that side. A sentence that says so
of the value itself branches on it, or rests on a check without ``standard_error`` (``above=0``, or ``above=2 * error`` for "by more than
two standard errors") where the value lies so many standard errors beyond that no other seed turns it.

Example:
    >>> from cm2.book.checks import check
    >>> check("the mean of 10,000 uniform draws", 0.5021, near=0.5, standard_error=0.0029)
    >>> check("the margin integrates to one", 1.0000003, near=1, within=1e-5)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cm2.environment.machine import describe
from cm2.errors import InputError

SIGMAS = 6.0
"""Standard errors that a check allows: a normal deviate exceeds them with probability 2e-9, one of a build's 500 checks with 1e-6."""
FALSE_ALARM = 2e-9
"""The corresponding p-value: a test of a true hypothesis is asserted to give more than this."""


# compared as a whole, not element by element
_WHOLE = (str, set, frozenset, dict)
# by keyword: the comparison, the sign with which the standard errors widen the bound, and the word for it
_ONE_SIDED = {
    "above": (np.greater, -1, "less"),
    "below": (np.less, 1, "plus"),
    "at_least": (np.greater_equal, -1, "less"),
    "at_most": (np.less_equal, 1, "plus"),
}


class CheckError(AssertionError):
    """A chapter's claim does not hold; the message gives the claim, the values, the bound and the machine."""


def check(
    claim: str,
    value: Any,
    *,
    equals: Any = None,
    near: Any = None,
    within: float | None = None,
    relative: float | None = None,
    standard_error: Any = None,
    above: Any = None,
    below: Any = None,
    at_least: Any = None,
    at_most: Any = None,
) -> None:
    """Assert a claim about a value, or about every element of an array, tensor, series or frame.

    Args:
        claim: the claim, in words.
        value: the computed value. Without any of the following it must be true in every element.
        equals: the exact value expected: for counts, words, sets, truth values, and floats that are exact by construction.
        near: the approximate value expected; needs ``within``, ``relative`` or ``standard_error``.
        within: largest distance allowed from ``near``.
        relative: the same as a fraction of ``near``; added to ``within`` if both are given.
        standard_error: standard error of ``value``. ``SIGMAS`` of them are allowed: around ``near``, below ``above`` and ``at_least``,
            above ``below`` and ``at_most``: there it widens the bound, for claims about an expectation (see the module).
        above: strict lower bound.
        below: strict upper bound.
        at_least: lower bound.
        at_most: upper bound.

    Raises:
        CheckError: the claim does not hold; it never does for NaN, nor for an empty value.
        ValueError: ``near`` without a distance, or a distance without ``near``.
    """
    one_sided = {"above": above, "below": below, "at_least": at_least, "at_most": at_most}
    bounds = {name: bound for name, bound in one_sided.items() if bound is not None}
    _refuse_half_a_bound(near, within, relative, standard_error, bounds)
    slack = 0.0 if standard_error is None else SIGMAS * _array(standard_error)
    if equals is not None:
        _equal(claim, value, equals)
    if near is not None:
        centre = _array(near)
        allowed = slack + (within or 0.0) + (relative or 0.0) * np.abs(centre)
        _require(claim, value, np.abs(_array(value) - centre) <= allowed, "within {} of {}", allowed, centre)
    for name, bound in bounds.items():
        compare, sign, word = _ONE_SIDED[name]
        holds = compare(_array(value), _array(bound) + sign * slack)
        allowance = f" {word} {SIGMAS:g} standard errors ({{}})" if standard_error is not None else ""
        _require(claim, value, holds, f"{name.replace('_', ' ')} {{}}{allowance}", bound, slack)
    if equals is None and near is None and not bounds:
        _require(claim, value, _array(value).astype(bool), "true")


def _refuse_half_a_bound(near: Any, within: Any, relative: Any, standard_error: Any, bounds: dict[str, Any]) -> None:
    if near is not None and within is None and relative is None and standard_error is None:
        raise InputError("near needs a distance: give within, relative or standard_error")
    if near is None and (within is not None or relative is not None):
        raise InputError("within and relative are distances from a value: give it as near")
    if standard_error is not None and near is None and not bounds:
        raise InputError("standard_error widens a bound: give near, above, below, at_least or at_most")


def _array(value: Any) -> np.ndarray:
    """As a NumPy array; tensors are detached and moved to the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def _equal(claim: str, value: Any, wanted: Any) -> None:
    if isinstance(wanted, _WHOLE) or isinstance(value, _WHOLE):
        _require(claim, value, np.asarray(value == wanted), "{}", wanted)
        return
    found, expected = _array(value), _array(wanted)
    if found.size == expected.size == 0:
        return
    try:
        same = found == np.broadcast_to(expected, np.broadcast_shapes(found.shape, expected.shape))
        if not same.size:  # an empty array broadcasts against anything, and all() of it is true
            raise InputError("an empty array fits every other")
    except ValueError:
        what = f"shape {found.shape}, expected {expected.shape} ({_show(expected)})"
        raise CheckError(f"{claim}: {what}. Checked on {describe()}") from None
    _require(claim, value, np.asarray(same), "{}", expected)


def _require(claim: str, value: Any, holds: np.ndarray, expected: str, *bounds: Any) -> None:
    """Raise unless all elements hold, naming the first that does not and its bounds."""
    holds = np.asarray(holds)
    if not holds.size:
        raise CheckError(f"{claim}: there is nothing to check, the value is empty")
    if holds.all():
        return
    if holds.size == 1:
        what = f"{_show(value)}, expected {expected.format(*map(_show, bounds))}"
    else:
        where = tuple(int(i) for i in np.argwhere(~holds)[0])
        here = [_show(np.broadcast_to(_array(item), holds.shape)[where]) for item in (value, *bounds)]
        count = f"{(~holds).sum()} of {holds.size} values are not as expected"
        what = f"{count}; the first, at {list(where)}, is {here[0]}, expected {expected.format(*here[1:])}"
    raise CheckError(f"{claim}: {what}. Checked on {describe()}")


def _show(value: Any) -> str:
    """At most a few numbers; a single one at full precision."""
    if isinstance(value, _WHOLE):
        return repr(value)
    array = _array(value)
    if array.ndim == 0:
        return repr(array.item())
    return np.array2string(array, threshold=8, edgeitems=3, precision=6, separator=", ").replace("\n", "")
