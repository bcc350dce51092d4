"""One run, from data to report."""
