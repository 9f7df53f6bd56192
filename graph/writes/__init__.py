"""Writes in the API: mutations, their inputs, payloads and errors."""
