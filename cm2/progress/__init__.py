"""Signs of life of whatever takes long: a bar on a terminal, elsewhere one plain line each half minute on the error stream.

A line is written by the clock, not when something is done, so that a single long step speaks as well. A progress within another becomes a
part of its line::

    table 2: 3 of 20 runs, training cm2 seed 1, epoch 7 of 30 (2 min 5 s); about 12 min left

What is done within the first half minute says nothing, nor does a chapter while the book is built.
"""

from cm2.progress.quiet import quiet_libraries
from cm2.progress.tree import Progress
from cm2.progress.words import about, duration

__all__ = ["Progress", "about", "duration", "quiet_libraries"]
