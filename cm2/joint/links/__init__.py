r"""Links between the copula and the embeddings of several modalities: the exact ones, and the paper's formula as printed.

Each exact link gives a density on :math:`R^{M \times d}` that integrates to 1 and whose margins are exactly the mixtures
:math:`f_m`, for every copula and any number of modalities. A link provides, under a mask of the modalities observed in each stay, the
density (`Link.terms`), draws of the missing embeddings given the observed ones (`Link.conditional`) and their mean.
"""

from cm2.config.names import import_all
from cm2.joint.links.base import ALL_LINKS, Link, PerDimension, TailCopula, WithoutSome

import_all(__name__, __path__)  # each link enters itself into ALL_LINKS

LINKS = {name: link for name, link in ALL_LINKS.items() if link.exact}
"""The exact links by name."""

__all__ = ["ALL_LINKS", "LINKS", "Link", "PerDimension", "TailCopula", "WithoutSome"]
