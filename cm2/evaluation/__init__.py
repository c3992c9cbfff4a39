"""Evaluation of trained embeddings and their distribution: retrieval, imputation, scores of draws, truth of a simulated cohort."""
