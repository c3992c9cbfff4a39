"""Networks: encoders of one modality, embeddings, fusion, weights of mixtures."""
