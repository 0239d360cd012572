"""Generators and ddddocr, which run in the environment of `requirements.txt` in this folder."""
