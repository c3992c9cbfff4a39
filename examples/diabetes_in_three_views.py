"""A number from three views of a person, the second one missing for every other row or so."""

import numpy as np
from sklearn.datasets import load_diabetes

from cm2.cohorts import from_frames
from cm2.tables import markdown, table

X, y = load_diabetes(return_X_y=True, as_frame=True)
views = {"person": X[["age", "sex"]], "body": X[["bmi", "bp"]].copy(), "serum": X.loc[:, "s1":]}
views["body"][np.random.default_rng(0).random(len(X)) < 0.5] = np.nan
cohort = from_frames(views, {"progression": y}, out="diabetes", credentialed=False)
rows, settings = ["Late fusion", "CM2"], {"train.epochs": 1}  # all rows and more epochs where it is not an example
print(markdown(table("views", cohort, "smoke", seeds=1, settings=settings, only=rows, out="results")))
