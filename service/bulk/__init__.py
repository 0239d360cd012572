"""Reads millions of pictures on one machine or a Ray cluster, into a table of Parquet files.

`rows` turns pictures into rows, `shards` finds and packs pictures, `tables` writes and counts the
rows, and `run` has Ray read the shards.
"""
