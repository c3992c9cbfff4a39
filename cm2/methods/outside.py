"""What tells the parts from outside the package apart that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping

from cm2.config import Config
from cm2.copulas import FAMILIES
from cm2.kinds import KINDS
from cm2.networks.encoders import ENCODERS
from cm2.networks.encoders.own import PART
from cm2.networks.fusion import FUSIONS
from cm2.parts import REGISTRIES
from cm2.tasks import TASKS


def identities(config: Config, kinds: Mapping[str, str], task: str = "binary") -> dict[str, str]:
    """Identities of the parts from outside the package that a method would be built of; see `cm2.parts.identity`.

    Args:
        config: the run's configuration.
        kinds: kinds of the modalities that take part, by name.
        task: type of the task.

    Returns:
        By what names them: ``method``, ``task``, ``kind.MODALITY``, ``encoder.MODALITY``, ``model.fusion``, ``model.family``. Parts of
        this package are left out.
    """
    model = config.model
    found = {
        "method": REGISTRIES["cm2.methods"].identity(config.method),
        "task": TASKS.identity(task),
        **{f"kind.{name}": KINDS.identity(of) for name, of in kinds.items()},
        **{f"encoder.{name}": ENCODERS.identity(str(part[PART])) for name, part in config.encoder.own.items() if name in kinds},
        "model.fusion": FUSIONS.identity(model.fusion),
        "model.family": FAMILIES.identity(model.family),
        "model.pair_family": FAMILIES.identity(model.pair_family),
    }
    return {name: identity for name, identity in found.items() if identity}
