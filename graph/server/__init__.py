"""One process: the application, its pages, health, metrics and logs."""
