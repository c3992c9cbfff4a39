"""What is predicted: one object for each task owns its labels, loss, link, metrics, and the columns in which all of them are stored.

`TASKS` lists the types by the name that a manifest calls them: ``binary``, ``multiclass``, ``multilabel``, ``regression``, ``survival``.
"""

from cm2.tasks.binary import Binary
from cm2.tasks.contract import TASKS, Task, known_stays, metric_named, task_of
from cm2.tasks.multiclass import Multiclass
from cm2.tasks.multilabel import Multilabel
from cm2.tasks.records import Metric, Single
from cm2.tasks.regression import Regression
from cm2.tasks.survival import Survival

__all__ = [
    "TASKS",
    "Binary",
    "Metric",
    "Multiclass",
    "Multilabel",
    "Regression",
    "Single",
    "Survival",
    "Task",
    "known_stays",
    "metric_named",
    "task_of",
]
