"""One file a question, answered beside a peer in the same run."""
