"""Random distortions for training, and fixed distortions for evaluation."""
