"""What a joint distribution can be built and fitted from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cm2.config.names import choose
from cm2.copulas import Copula
from cm2.errors import InputError
from cm2.joint.links import ALL_LINKS
from cm2.marginals import GaussianMixture

_DIRECTIONS = 8


def check_choice(link: str, types: str) -> None:
    """Checks the names of a link and of a type of labels, and that they go together."""
    if link not in ALL_LINKS:
        raise InputError(f"unknown link {link!r}; {choose(link, ALL_LINKS)}")
    known = list(dict.fromkeys(name for each in ALL_LINKS.values() for name in each.types))
    if types not in known:
        raise InputError(f"unknown types {types!r}; {choose(types, known)}")
    if types not in ALL_LINKS[link].types:
        able = " or ".join(name for name, each in ALL_LINKS.items() if types in each.types)
        raise InputError(f"types={types!r} is not for link={link!r}; use link={able}")


def check_marginals(marginals: Sequence[GaussianMixture]) -> None:
    """Checks that there are two mixtures or more, all of one shape."""
    if len(marginals) < 2:
        raise InputError(f"CopulaJoint: expected at least two marginals, got {len(marginals)}")
    sizes = [(mixture.components, mixture.dim, mixture.covariance) for mixture in marginals]
    if len(set(sizes)) > 1:
        raise InputError(
            f"CopulaJoint: marginals must agree in (components, dim, covariance), got {sizes}; project the embeddings to one dim"
        )


def check_directions(link: str, count: int | None, dim: int) -> int:
    """The number of directions, 0 for a link without.

    Raises:
        ValueError: given for a link without, or not from 1 to d.
    """
    if not ALL_LINKS[link].directed:
        if count is not None:
            raise InputError(f'directions={count} given with link={link!r}; only link="vector" has directions')
        return 0
    count = min(_DIRECTIONS, dim) if count is None else count
    if not 1 <= count <= dim:
        raise InputError(f"directions={count} for embeddings of {dim} coordinates; choose 1 to {dim}")
    return count


def check_copula(copula: Copula | Sequence[Copula], modalities: int, dim: int, link: str, directions: int) -> None:
    """Checks that there are as many copulas as the link takes, all of M coordinates."""
    each = [copula] if isinstance(copula, Copula) else list(copula)
    if any(c.dim != modalities for c in each):
        dims = sorted({c.dim for c in each})
        raise InputError(f"copula of dim {dims} for {modalities} marginals; make it with dim={modalities}")
    several = ALL_LINKS[link].several(dim, directions)
    what = "direction" if directions else "coordinate"
    if not isinstance(copula, Copula) and len(each) != several:
        needs = f"it needs one for each of {several} {what}s" if several else 'a list needs link="dimension" or "vector"'
        raise InputError(f"{len(each)} copulas given with link={link!r}; {needs}")
    batch = copula(validate_args=False).batch_shape if isinstance(copula, Copula) else torch.Size()
    if batch not in ((), (several,) if several else ()):
        takes = f"it takes one per {what}, ({several},)" if several else 'only link="dimension" and "vector" take several'
        raise InputError(f"copula with parameters of shape {tuple(batch)} given with link={link!r}; {takes}")


def check_sample(z: Tensor, present: Tensor, modalities: int, dim: int) -> None:
    """Checks embeddings ``(n, M, d)`` and their mask.

    Raises:
        ValueError: a wrong shape or type.
    """
    if z.ndim != 3 or z.shape[1:] != (modalities, dim):
        raise InputError(f"fit: expected embeddings (n, {modalities}, {dim}), got {tuple(z.shape)}")
    if present.dtype != torch.bool or present.shape != z.shape[:2]:
        raise InputError(f"fit: expected present bool {tuple(z.shape[:2])}, got {present.dtype} {tuple(present.shape)}")
