"""Writing datasets in MineStudio's layout."""
