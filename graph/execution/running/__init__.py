"""Executing a plan, and writing the answer as bytes."""
