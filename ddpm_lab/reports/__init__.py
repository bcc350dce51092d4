"""What is shown of runs: the page, curves, rankings."""
