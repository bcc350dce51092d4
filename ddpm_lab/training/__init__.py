"""The loss, the step, the loop."""
