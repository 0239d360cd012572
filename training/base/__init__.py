"""The base: a model of pictures in very many styles, from which the training of a family starts."""
