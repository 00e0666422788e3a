"""Other projects' weights, read as ours."""
