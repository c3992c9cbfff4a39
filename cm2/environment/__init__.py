"""What the package finds where it runs: the machine, and the optional packages that are installed."""
