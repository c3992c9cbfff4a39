"""One preparation of a folder at a time: what `cm2.cohorts.workplace` offers, for preparations from raw files."""

from cm2.cohorts.workplace import remove_leftovers, workplace

__all__ = ["remove_leftovers", "workplace"]
