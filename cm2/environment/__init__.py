"""The machine, the optional packages that are installed, and the names that modules had before they moved."""
