"""Writing a prepared cohort: what `cm2.cohorts.writing` offers, for preparations from raw files."""

from cm2.cohorts.writing import PreparedCohort, PreparedModality, already_prepared, write_cohort
from cm2.durable import whole_or_nothing

__all__ = ["PreparedCohort", "PreparedModality", "already_prepared", "whole_or_nothing", "write_cohort"]
