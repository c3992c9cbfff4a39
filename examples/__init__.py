"""A joint distribution of embeddings in training loops of your own: plain PyTorch, Lightning, and the Trainer of Hugging Face."""
