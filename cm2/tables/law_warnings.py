"""Warnings below tables of embeddings about laws that do not describe the embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cm2.tables.result import Cell

FAR, POOR = 0.2, 1.05
"""Distance of the law and error of a mean above which a table warns."""


def warnings_of(cells: Sequence[Cell]) -> Iterator[str]:
    """Sentences about laws that do not describe the embeddings, with the rows concerned."""
    far = _by_method(cell for cell in cells if cell.metric == "law_distance" and (cell.value or 0) > FAR)
    if far:
        listed = "; ".join(f"{method} ({_largest(own)})" for method, own in far.items())
        yield (
            f"The fitted law does not describe the embeddings of the network that was kept, and its nats are no measure of what it sees,"
            f" where its mean lies more than {FAR:g} standard deviations from theirs: {listed}."
        )
    # zero is no forecast of the law
    poor = _by_method(cell for cell in cells if cell.metric == "error" and cell.score != "zero" and (cell.value or 0) > POOR)
    if poor:
        ways = {method: ", ".join(dict.fromkeys(cell.score for cell in own)) for method, own in poor.items()}
        listed = "; ".join(f"{method} ({ways[method]}: up to {_largest(own)})" for method, own in poor.items())
        yield f"Errors of the mean above {POOR:g} are those of a law that does not describe the embeddings: {listed}."


def _by_method(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.method, []).append(cell)
    return found


def _largest(cells: Iterable[Cell]) -> str:
    return f"{max(cell.value or 0 for cell in cells):.3g}"
