"""What the history proves of a grid event, for whoever settles it."""
