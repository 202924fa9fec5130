"""aggregate: frames and request rates folded into site state, window by window."""
