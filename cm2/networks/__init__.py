"""Networks: encoders of one modality, embeddings, fusion, mixture weights."""
