"""Writes: rows in one statement, the change log, kept answers, rights inside the transaction."""
