"""Fitting a copula to a sample, choosing its family, testing the choice."""
