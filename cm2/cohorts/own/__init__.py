"""Cohorts of one's own data: from frames and arrays in memory, from files, from events in the layout of MEDS, from samples of PyHealth."""

from cm2.cohorts.own.apply import Layout
from cm2.cohorts.own.back import documents, to_frames
from cm2.cohorts.own.build import from_frames
from cm2.cohorts.own.declared import Arrays, Images, Table, Texts, TimeSeries
from cm2.cohorts.own.files import from_files
from cm2.cohorts.own.meds import from_meds
from cm2.cohorts.own.samples import from_samples

__all__ = [
    "Arrays",
    "Images",
    "Layout",
    "Table",
    "Texts",
    "TimeSeries",
    "documents",
    "from_files",
    "from_frames",
    "from_meds",
    "from_samples",
    "to_frames",
]
