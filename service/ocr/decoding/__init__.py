"""Turns class probabilities into texts: CTC, beam search, constraints, calibration."""
