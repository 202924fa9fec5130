"""The outside world: settings, clock, bus, database, metrics, and the embedded servers. Never imports streams."""
