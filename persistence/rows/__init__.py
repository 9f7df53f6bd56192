"""Rows for reads: statements built once, and records instead of entities."""
