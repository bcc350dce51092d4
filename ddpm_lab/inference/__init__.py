"""A trained run opened again."""
