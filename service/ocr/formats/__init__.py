"""Walks over picture files before a decoder does."""
