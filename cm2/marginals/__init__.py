"""Marginal distributions of embeddings: Gaussian mixtures and their Rosenblatt transform."""

from cm2.marginals.gaussian_mixture import GaussianMixture, GaussianMixtureDistribution, draw_labels

__all__ = ["GaussianMixture", "GaussianMixtureDistribution", "draw_labels"]
