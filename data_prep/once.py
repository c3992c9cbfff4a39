"""What every preparation does in turn: look whether the cohort is there, wait for others that prepare it, look again, make it, write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cm2.progress import Progress
from data_prep.workplace import workplace
from data_prep.writer import PreparedCohort, already_prepared, write_cohort


@dataclass(frozen=True)
class Asked:
    """A cohort that is asked for.

    Args:
        out: its folder.
        name: of the cohort.
        version: of its preparation.
        parameters: what it depends on; with name and version they identify it.
        credentialed, fabricated: flags of the manifest.
    """

    out: Path
    name: str
    version: str
    parameters: Mapping[str, Any]
    credentialed: bool = True
    fabricated: bool = False

    def is_there(self) -> bool:
        """Whether the folder holds it.

        Raises:
            ValueError: the folder holds something else.
        """
        return already_prepared(self.out, self.name, self.version, self.parameters, self.credentialed, self.fabricated)


def prepare_once(
    asked: Asked,
    make: Callable[[Path], PreparedCohort],
    progress: Progress,
    temporary: Path | str | None = None,
    around: tuple[AbstractContextManager[Any], ...] = (),
) -> Path:
    """Prepares a cohort, unless it is there or another process prepares it meanwhile.

    Args:
        asked: the cohort.
        make: makes it, with a folder for intermediate files, which are gone afterwards.
        progress: is told when the cohort is written.
        temporary: where that folder is; None: beside the cohort.
        around: entered for as long as it is made and written.

    Returns:
        The cohort's folder.

    Raises:
        ValueError: the folder holds something else; or as ``make``.
    """
    if asked.is_there():
        return asked.out
    with ExitStack() as stack:
        work = stack.enter_context(workplace(asked.out, temporary))
        for each in around:
            stack.enter_context(each)
        if asked.is_there():  # by the process that this one has waited for
            return asked.out
        cohort = make(work)
        progress.stage("writing")
        return write_cohort(asked.out, cohort)
