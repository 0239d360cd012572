"""The same model behind other servers, written as their tutorials write it, not tuned."""
