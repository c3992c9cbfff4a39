"""Raw files to prepared cohorts."""
