"""The lab from Python: what `import ddpm_lab` gives. Each name is imported when it is first used (ddpm_lab/__init__.py)."""
