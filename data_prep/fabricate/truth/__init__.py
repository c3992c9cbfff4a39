"""The truth of fabricated folders: the rules of the preparation restated plainly, over the rows that were written."""
