"""From bytes to the engine: HTTP, WebSockets, persisted documents and budgets."""
