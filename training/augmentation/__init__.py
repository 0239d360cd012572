"""Random distortions for training, fixed ones for evaluation."""
