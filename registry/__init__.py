"""The registries of interchangeable parts. To add one: a file with one function or class, in the folder of its category."""
