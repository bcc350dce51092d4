"""W&B sweep files run on this machine."""
