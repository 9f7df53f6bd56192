"""Lists in the API: connections, their arguments and filters."""
