"""What is in the tables? The verbs `query` and `connect`."""
