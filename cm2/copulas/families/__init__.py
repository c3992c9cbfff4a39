"""The copula families, one file each."""
