"""The symbols that the base model knows."""

import string

MARKS = "-.,:/+*=?!#@&%$()"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase + MARKS
"""The symbols in the order of the classes; the blank is the last class."""
