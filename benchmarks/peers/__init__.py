"""The same model behind other servers, written as in their tutorials, not tuned."""
