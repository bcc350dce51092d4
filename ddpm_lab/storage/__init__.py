"""What lies on the disk: files, images, weights, checkpoints, the folder of a run."""
