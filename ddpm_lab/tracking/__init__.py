"""W&B beside a run's own files."""
