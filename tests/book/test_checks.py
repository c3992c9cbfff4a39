"""Assertions of the chapters: what passes, what fails, and what a failure says."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from cm2.book.checks import FALSE_ALARM, SIGMAS, CheckError, check
from cm2.environment.machine import describe, machine


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (True, {}),
        (torch.tensor([1.0, 2.0], requires_grad=True), {"near": [1, 2], "within": 1e-9}),
        (1 + 1e-10, {"near": 1, "relative": 1e-9}),
        (0.53, {"near": 0.5, "standard_error": 0.006}),
        (0.47, {"above": 0.5, "standard_error": 0.006}),
        (-0.5, {"above": 0, "standard_error": 0.1}),  # it widens the bound: the draws do not contradict the claim
        ({"a"}, {"equals": {"a"}}),
        (pd.Series([1, 2]), {"equals": [1, 2]}),
        ("gumbel", {"equals": "gumbel"}),
        (np.arange(3), {"at_least": 0, "at_most": 2}),
        (np.arange(3), {"above": -1, "below": [1, 2, 3]}),
        ([], {"equals": []}),
    ],
)
def test_what_holds_passes(value, bounds):
    check("it holds", value, **bounds)


@pytest.mark.parametrize(
    ("value", "bounds", "words"),
    [
        (False, {}, "False, expected true"),
        (0.93, {"near": 1, "within": 1e-3}, "0.93, expected within 0.001 of 1"),
        (float("nan"), {"near": 1, "within": 1e9}, "nan, expected within"),
        (float("nan"), {"above": 0}, "nan, expected above 0"),
        ("clayton", {"equals": "gumbel"}, "'clayton', expected 'gumbel'"),
        ([1, 2], {"equals": [1, 2, 3]}, r"shape \(2,\), expected \(3,\)"),
        (torch.arange(5), {"below": 3}, r"2 of 5 values are not as expected; the first, at \[3\], is 3, expected below 3"),
        (0.46, {"above": 0.5, "standard_error": 0.006}, "expected above 0.5 less 6 standard errors"),
        (0.54, {"at_most": 0.5, "standard_error": 0.006}, "expected at most 0.5 plus 6 standard errors"),
        (-0.7, {"above": 0, "standard_error": 0.1}, "expected above 0 less 6 standard errors"),
        ([], {}, "nothing to check"),
        ([], {"above": 3}, "nothing to check"),
        (["one"], {"equals": []}, r"shape \(1,\), expected \(0,\)"),
        ([], {"equals": ["one"]}, r"shape \(0,\), expected \(1,\)"),
        (np.eye(2), {"near": 1, "within": 0.5}, r"2 of 4 values.*at \[0, 1\], is 0.0, expected within 0.5 of 1"),
        (np.ones(3), {"equals": [1, 2, 3]}, r"2 of 3 values.*at \[1\], is 1.0, expected 2\."),
    ],
)
def test_what_does_not_hold_shows_claim_values_bound_and_machine(value, bounds, words):
    with pytest.raises(CheckError, match=words) as failure:
        check("the claim", value, **bounds)
    assert str(failure.value).startswith("the claim: ")
    assert describe() in str(failure.value) or "nothing" in words
    assert isinstance(failure.value, AssertionError)


@pytest.mark.parametrize("bounds", [{"near": 1}, {"within": 1e-3}, {"relative": 1e-3}, {"standard_error": 0.1}])
def test_half_a_bound_is_refused(bounds):
    with pytest.raises(ValueError, match="give"):
        check("half", 1.0, **bounds)


def test_the_false_alarm_rate_is_that_of_the_standard_errors():
    assert abs(2 * norm.sf(SIGMAS) - FALSE_ALARM) < 0.05 * FALSE_ALARM
    assert 500 * 2 * norm.sf(SIGMAS) < 1e-6


def test_the_machine_says_what_rounds():
    facts = machine()
    assert set(facts) == {"processor", "architecture", "instructions", "threads", "system", "python", "torch"}
    assert facts["threads"] == torch.get_num_threads() and facts["processor"] in describe()
    assert "1 thread," in describe(facts | {"threads": 1}) and "2 threads" in describe(facts | {"threads": 2})
