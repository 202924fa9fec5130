"""Those that `benchmarks.aggregate` holds the aggregate stage against: each a program of its own, one a file."""
