"""Training, out of the stream's process: history in, a model that serves if it is better out."""
