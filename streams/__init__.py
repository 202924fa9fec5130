"""The flow: topology.py is the page to read first."""
