"""Marginal distributions of embeddings: Gaussian mixtures and their Rosenblatt transform."""

from cm2.marginals.distribution import GaussianMixtureDistribution, draw_labels
from cm2.marginals.gaussian_mixture import COVARIANCES, GaussianMixture

__all__ = ["COVARIANCES", "GaussianMixture", "GaussianMixtureDistribution", "draw_labels"]
