"""The recipes of this package: one YAML file each."""
