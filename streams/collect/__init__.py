"""Collecting: traces, prices and events as values, before they become records on the bus."""
