"""forecast: site states folded into histories, and a forecast at the end of each step."""
