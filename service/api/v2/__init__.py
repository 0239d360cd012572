"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors."""
