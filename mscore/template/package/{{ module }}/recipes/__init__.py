"""Ready configs: `mscore run NAME`."""
