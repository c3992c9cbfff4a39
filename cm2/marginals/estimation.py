r"""Estimates of a Gaussian mixture: from clusters, and by maximum likelihood.

Both return weights ``(K,)``, means ``(K, d)`` and the standard deviations ``(K, d)`` or, with full covariances, their Cholesky factors
``(K, d, d)``, in float64 on the CPU. scikit-learn is imported where it is used: distributions and their densities do without it.

References:
    Arthur, Vassilvitskii (2007), k-means++: the advantages of careful seeding, SODA
    Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39
    Ledoit, Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis 88
"""

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from cm2.environment.extras import require
from cm2.errors import InputError

Estimate = tuple[Tensor, Tensor, Tensor]


def from_clusters(points: Tensor, components: int, floor: float, full: bool, seed: int) -> Estimate:
    """k-means++ and Lloyd's iterations; each cluster is a component.

    Each cluster's variances are shrunk by one pseudo-observation with the variances of all points, full covariances before that towards a
    multiple of the identity (Ledoit and Wolf 2004).

    Args:
        points: ``(n, d)`` float64.
        components: K, at most the number of distinct points.
        floor: of the standard deviations.
        full: full covariances.
        seed: of the random choice of starting centres.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn")
    from sklearn.cluster import KMeans

    labels = torch.from_numpy(KMeans(components, n_init=4, random_state=seed).fit(points.numpy()).labels_).long()
    member = F.one_hot(labels, components).to(points)
    count = member.sum(0)
    mean = member.T @ points / count[:, None]
    residuals, total = points - mean[labels], points.var(0, correction=0)
    if full:
        covariance = torch.stack([_pooled(residuals[labels == k], total) for k in range(components)])
        scale = torch.linalg.cholesky(covariance + floor**2 * torch.eye(points.shape[1], dtype=points.dtype))
    else:
        scale = ((member.T @ residuals.square() + total) / (count[:, None] + 1)).sqrt().clamp(min=floor)
    return count / count.sum(), mean, scale


def from_likelihood(points: Tensor, start: Estimate, floor: float, shrinkage: float, iterations: int) -> Estimate:
    r"""Maximum likelihood by expectation and maximisation (Dempster, Laird, Rubin 1977).

    Full covariances become :math:`(1 - s) \Sigma_k + s \operatorname{diag} \Sigma_k` at the end: an estimate from about as many points as
    coordinates is near a singular one.

    Args:
        points: ``(n, d)`` float64.
        start: where to begin; its scales say whether the covariances are full.
        floor: standard deviation whose square is added to every variance.
        shrinkage: s.
        iterations: at most this many.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        ValueError: a constant coordinate; a component that has collapsed onto a single point; full covariances without shrinkage of a
            component with no more points than coordinates.
    """
    require("sklearn")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if constant := (points.std(0, correction=0) == 0).nonzero().flatten().tolist():
        raise InputError(f"fit: coordinate {constant[0]} of the embeddings is constant, a degenerate covariance; normalise by batch")
    weights, mean, scale = (x.detach().double().cpu() for x in start)
    full = scale.ndim == 3
    precision = torch.cholesky_inverse(scale) if full else scale.square().reciprocal()
    estimator = GaussianMixture(
        len(weights),
        covariance_type="full" if full else "diag",
        reg_covar=floor**2,
        max_iter=iterations,
        weights_init=(weights / weights.sum()).numpy(),
        means_init=mean.numpy(),
        precisions_init=precision.numpy(),
    )
    with warnings.catch_warnings():
        # the limit of iterations was given by the caller
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(points.numpy())
    weights, mean, covariance = (torch.from_numpy(x) for x in (estimator.weights_, estimator.means_, estimator.covariances_))
    _refuse_degenerate(weights * len(points), len(points), covariance, floor, shrinkage)
    if not full:
        return weights, mean, covariance.sqrt()
    diagonal = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
    return weights, mean, torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * diagonal)


def _refuse_degenerate(members: Tensor, n: int, covariance: Tensor, floor: float, shrinkage: float) -> None:
    """Raises ValueError for a component whose covariance is that of the floor and not of its points, in all directions or in some."""
    full = covariance.ndim == 3
    variance = covariance.diagonal(dim1=-2, dim2=-1) if full else covariance
    collapsed = (members < 2) | (variance.amax(-1) < floor**2 * (1 + 1e-6))
    if bool(collapsed.any()):
        k = int(collapsed.nonzero()[0])
        raise InputError(
            f"fit: component {k} has collapsed onto a single embedding (it has {float(members[k]):.2g} of {n}), a degenerate covariance; "
            "use fewer components or a larger minimum_scale"
        )
    dim = variance.shape[-1]
    if full and shrinkage == 0 and bool((members < dim).any()):
        k = int(members.argmin())
        raise InputError(
            f"fit: component {k} has {float(members[k]):.3g} of {n} embeddings, too few for a full covariance of {dim} coordinates: it is "
            'degenerate; use covariance="diagonal", shrinkage, fewer components or fewer coordinates'
        )


def _pooled(residuals: Tensor, total: Tensor) -> Tensor:
    """Covariance of a cluster's residuals ``(n, d)``, shrunk, and by one pseudo-observation with the variances `total` ``(d,)``."""
    if len(residuals) < 2:  # a cluster of one point has no covariance of its own
        return torch.diag(total) / 2
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(residuals.numpy(), assume_centered=True)
    return (len(residuals) * torch.from_numpy(covariance) + torch.diag(total)) / (len(residuals) + 1)
