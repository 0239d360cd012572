"""Labelled pictures: sources, checks, split and report."""
