"""Metrics of generated images, each with the protocol that it depends on."""
