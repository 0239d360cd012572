"""Reading pictures with a model: the code that training and serving share.

`preprocessing` is the contract of the input, `decoding` that of the output, `metadata` describes a
model, and `recognizer` puts them together. This package knows no web framework and no TensorFlow.
"""
