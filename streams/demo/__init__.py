"""The main job on the embedded default, and the count of what it did."""
