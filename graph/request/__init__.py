"""The scope of one operation: who asks, the session, the loaders, and what is selected."""
