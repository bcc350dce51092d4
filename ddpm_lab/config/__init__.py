"""From YAML and the command line to one validated experiment."""
