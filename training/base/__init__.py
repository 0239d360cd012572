"""The base: a model trained on very many styles, from which every other training starts."""
