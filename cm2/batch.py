"""One batch for every cohort, every number of modalities and every missing pattern.

A modality may be absent for any stay. Absent means absent: the rows of ``values`` that belong to an absent modality are
placeholders that no method may read; ``rows`` lists the ones that may be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cm2.errors import InputError

Value = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Modality:
    """What a method has to know of a modality before it sees a batch.

    Args:
        name: unique within a cohort, for example ``"series"`` or ``"laboratory"``.
        kind: one of ``cm2.kinds``: ``"series"`` (steps, features), ``"image"`` (height, width), or (height, width, 3) in colour, in [0, 1],
            ``"text"`` (token ids), ``"vector"`` (features).
        shape: shape of one stay's value without the batch dimension; for text ``(max_length,)``.
        vocabulary: number of token ids; only for text.
        masks: of a series, for each feature the number of the feature that is 1 where it was measured and 0 where its value is filled
            in; -1 where there is none. Empty: there are no such features.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    vocabulary: int = 0
    masks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Stays with their modalities, who has which, and the label.

    Args:
        values: by modality name, in the order of the columns of ``present``; a tensor ``(B, ...)`` or, for text, a
            dictionary with ``input_ids`` and ``attention_mask``, both ``(B, L)``, or ``(B, documents, L)`` where a text is
            several documents.
        present: ``(B, M)`` bool, whether stay ``i`` has modality ``m``.
        label: ``(B,)`` float, or ``(B, L)`` where a label has several numbers; NaN where the outcome is unknown. What they may be is
            the matter of a task (``cm2.tasks``).
        stay_id: ``(B,)`` int64.
        raw: whether values are still as they are stored, such as the bytes of an image; see `cm2.kinds.ready`.

    Raises:
        ValueError: shapes that disagree, a stay with no modality, a value that is not finite where a modality is present,
            or a label that is infinite.
    """

    values: dict[str, Value]
    present: Tensor
    label: Tensor
    stay_id: Tensor
    rows: dict[str, Tensor] = field(default_factory=dict, repr=False)
    raw: bool = False

    def __post_init__(self) -> None:
        if self.rows:  # already checked: this batch was moved or narrowed from one that was
            return
        self._check_shapes()
        rows = {name: self.present[:, m].nonzero().flatten() for m, name in enumerate(self.values)}
        object.__setattr__(self, "rows", rows)
        self._check_values()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``present``."""
        return tuple(self.values)

    def __len__(self) -> int:
        return self.present.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on ``device``; the row indices travel along, so no method has to ask the device for them."""
        return self._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def with_present(self, present: Tensor) -> Batch:
        """The same stays with other modalities present ``(B, M)``: a modality can be taken away, not conjured up."""
        if bool((present & ~self.present).any()):
            raise InputError("with_present: a modality that the cohort lacks for a stay was asked for; pass a subset of batch.present")
        return Batch(self.values, present, self.label, self.stay_id, raw=self.raw)

    def _map(self, f: Callable[[Tensor], Tensor]) -> Batch:
        def over(value: Value) -> Value:
            return {k: f(v) for k, v in value.items()} if isinstance(value, dict) else f(value)

        return replace(
            self,
            values={name: over(value) for name, value in self.values.items()},
            present=f(self.present),
            label=f(self.label),
            stay_id=f(self.stay_id),
            rows={name: f(rows) for name, rows in self.rows.items()},
        )

    def _check_shapes(self) -> None:
        if self.present.dtype != torch.bool or self.present.ndim != 2:
            raise InputError(f"present: expected bool (B, M), got {self.present.dtype} {tuple(self.present.shape)}")
        stays, width = self.present.shape
        if width != len(self.values):
            raise InputError(
                f"present has {width} columns for {len(self.values)} modalities {list(self.values)}; give one column per modality"
            )
        for name, value in self.values.items():
            for part, tensor in value.items() if isinstance(value, dict) else (("", value),):
                if tensor.shape[:1] != (stays,):
                    label = f"{name}.{part}" if part else name
                    raise InputError(f"{label}: expected {stays} rows as in present, got shape {tuple(tensor.shape)}")
        if self.label.shape[:1] != (stays,) or self.label.ndim > 2:
            raise InputError(f"label: expected shape ({stays},) or ({stays}, L), got {tuple(self.label.shape)}")
        if self.stay_id.shape != (stays,):
            raise InputError(f"stay_id: expected shape ({stays},), got {tuple(self.stay_id.shape)}")

    def _check_values(self) -> None:
        empty = ~self.present.any(dim=1)
        if bool(empty.any()):
            raise InputError(f"stay {int(self.stay_id[empty][0])} has no modality; drop such stays when the cohort is prepared")
        if bool(self.label.isinf().any()):
            raise InputError("label: expected a finite number for every stay, or NaN where its outcome is unknown; one is infinite")
        for name, value in self.values.items():
            check_finite(name, value, self.rows[name], self.stay_id)


def check_finite(name: str, value: Value, rows: Tensor, stay_id: Tensor) -> None:
    """Raises ValueError for the first of some rows of a modality's values that is not finite; texts and whole numbers always are."""
    if isinstance(value, dict) or not value.is_floating_point():
        return
    bad = ~value[rows].isfinite().flatten(1).all(dim=1)
    if bool(bad.any()):
        stay = int(stay_id[rows][bad][0])
        raise InputError(f"{name}: stay {stay} has a value that is not finite; impute or mark the modality absent when preparing")
