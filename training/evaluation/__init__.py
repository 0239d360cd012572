"""Measures exported models."""
