"""policy: what is known of a fleet, planned, guarded, and turned into commands."""
