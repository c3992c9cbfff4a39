"""CM²: cross-modal alignment via variational copula modelling."""
