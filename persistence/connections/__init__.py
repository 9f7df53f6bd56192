"""Connections to the database: how they are made, shared, tested and given up."""
