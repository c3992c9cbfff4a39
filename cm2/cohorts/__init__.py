"""Prepared cohorts: folders written by ``data_prep``, or from your own data by `from_frames`; verified, memory-mapped and batched.

**What `from_frames` reads.** The labels decide which stays there are. Data of pandas find their stays by id: the column ``id``, else the
index. Arrays, tensors and lists, and frames without ids, are in the order of the labels. Data of Arrow, polars and Hugging Face's
``datasets`` become data of pandas. The type of a value tells what it is; to say otherwise, and for options, give one of these objects:

* `Table`: a frame with one row for each id, an array ``(n,)`` or ``(n, F)``;
* `TimeSeries`: a frame with rows for each id and a column ``time``, an array ``(n, T, F)``, arrays ``(T_i, F)``, pairs ``(times, values)``;
* `Images`: arrays ``(n, H, W)`` of uint8, ``(n, H, W, 3)`` or ``(n, 3, H, W)``, images of PIL, paths;
* `Texts`: strings, lists of strings (several documents), a frame with several texts for each id;
* `Arrays`: arrays of one shape of a kind of your own, stored as they are.

**What becomes of it.** Numbers and dates (as days since 1970) become features ``name``, standardised with what the training stays measured;
truth values 0 or 1; categories ``name->level``. Where any value of a modality is missing, every column also has a feature ``mask->name``:
1 where it was measured, 0 where it is filled in, in a table by the training mean, in a series by the last value before. Series that differ
in length or have times also have the channels ``time`` and ``mask->time``, which is 1 in a stay's own steps and 0 in those that fill up to
the longest; after its last step, a stay's last values stand on. `to_frames` leads back to the values that were given, and `Layout` lays
out further rows in the same way, for a model that was trained on the cohort.
"""

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.format import FORMAT, SPLITS
from cm2.cohorts.opening import load_cohort
from cm2.cohorts.own import *  # noqa: F403 - what the package offers is listed there once
from cm2.cohorts.own import __all__ as _own
from cm2.cohorts.stays import Stays

__all__ = ["FORMAT", "SPLITS", "Cohort", "Stays", "load_cohort", *_own]
