"""The mathematics of diffusion, a model built from its parts, images sampled from it."""
