"""Prepared cohorts: folders written by ``data_prep``, or from your own data by `from_frames`; verified, memory-mapped and batched."""

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.format import FORMAT, SPLITS
from cm2.cohorts.opening import load_cohort
from cm2.cohorts.own import Images, Table, Texts, TimeSeries, documents, from_files, from_frames, from_meds, from_samples, to_frames
from cm2.cohorts.stays import Stays

__all__ = [
    "FORMAT",
    "SPLITS",
    "Cohort",
    "Images",
    "Stays",
    "Table",
    "Texts",
    "TimeSeries",
    "documents",
    "from_files",
    "from_frames",
    "from_meds",
    "from_samples",
    "load_cohort",
    "to_frames",
]
