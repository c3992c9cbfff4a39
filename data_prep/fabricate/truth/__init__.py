"""The truth of fabricated folders: the rules of the preparation, implemented a second time and plainly, on the rows written."""
