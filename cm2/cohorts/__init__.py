"""Prepared cohorts: folders written by ``data_prep``, verified, memory-mapped and batched."""

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.format import FORMAT, SPLITS
from cm2.cohorts.opening import load_cohort
from cm2.cohorts.stays import Stays

__all__ = ["FORMAT", "SPLITS", "Cohort", "Stays", "load_cohort"]
