"""Progress of long computations: a bar on a terminal, elsewhere one plain line every half minute on stderr.

Lines are written by the clock, not when a step ends: a single long step is reported as well. A progress within another becomes part of
its line::

    table 2: 3 of 20 runs, training cm2 seed 1, epoch 7 of 30 (2 min 5 s); about 12 min left

Nothing is written for work that ends within half a minute, nor by a chapter while the book is built.
"""

from cm2.progress.quiet import quiet_libraries
from cm2.progress.tree import Progress
from cm2.progress.words import about, duration

__all__ = ["Progress", "about", "duration", "quiet_libraries"]
