"""Runs the application: uvicorn, its protocol with limits, workers and shutdown."""
