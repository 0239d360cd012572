"""What training and serving agree on: preprocessing, CTC codec, metadata, recognizer.

Nothing in this package knows HTTP, pydantic or TensorFlow.
"""
