"""Ten classes from two views, the upper and the lower half of a digit, the lower one missing for every other row or so."""

import numpy as np
from sklearn.datasets import load_digits

from cm2.cohorts import from_frames
from cm2.tables import markdown, table

pixels, digit = load_digits(return_X_y=True)
upper, lower = np.hsplit(pixels, 2)
lower[np.random.default_rng(0).random(len(digit)) < 0.5] = np.nan
cohort = from_frames({"upper": upper, "lower": lower}, {"digit": digit}, out="digits", credentialed=False)
rows, settings = ["Late fusion", "CM2"], {"train.epochs": 1}  # all rows and more epochs where it is not an example
print(markdown(table("views", cohort, "smoke", seeds=1, settings=settings, only=rows, out="results")))
