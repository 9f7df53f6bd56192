"""From a text to a prepared operation: parsing, limits, cost, the values of variables."""
