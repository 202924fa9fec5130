"""record: every topic into the history, each natural key once."""
