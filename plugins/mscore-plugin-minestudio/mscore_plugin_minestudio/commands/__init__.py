"""The commands of `mscore data`, thin: they parse, call and print."""
