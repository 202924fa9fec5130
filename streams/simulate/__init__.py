"""The simulator: a plant that answers as the sites would, and the demo fleet. Pure; the shells stand elsewhere."""
