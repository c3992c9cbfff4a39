"""What a trained law and its embeddings are worth: retrieval, imputation, scores of draws, the truth of a simulated cohort."""
