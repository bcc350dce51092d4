"""What is shown of runs: tables of results, the page of a run, curves, comparisons."""
