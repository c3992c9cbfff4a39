"""Inference for copulas: parameter estimation, family selection, goodness of fit."""
