"""Estimators for scikit-learn: tables whose columns are several modalities, some of them missing, in its pipelines and searches.

``fit`` makes a cohort of the rows (`cm2.cohorts.from_frames`) in a temporary folder, keeps a share of them to choose the epoch, and trains
a method as every run does. ``predict`` lays further rows out with the columns, categories, means and vocabulary of those rows
(`cm2.cohorts.Layout`). Every method of the package can be an estimator, and every setting of a run can be searched:

>>> estimator = CM2Classifier({"labs": ["sodium", "lactate"], "note": "text"}, profile="smoke")
>>> estimator.set_params(train__epochs=3, model__link="scalar").settings
{'train.epochs': 3, 'model.link': 'scalar'}
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from cm2.cohorts import Table, from_frames
from cm2.cohorts.own.declared import Declared
from cm2.cohorts.own.incoming import column_of, plain
from cm2.config import Config
from cm2.config.schema import plain_name
from cm2.errors import InputError, in_the_words_of
from cm2.parts import carried, receive
from cm2.runs.in_memory import TrainedMethod, train_in_memory
from cm2.tasks import Binary, Multiclass, Regression, Task

OUTCOME = "outcome"
GROUPS = ("model", "baseline", "encoder", "train")
"""Settings that ``set_params`` reaches by their names with two underscores."""
CARRIED = "_parts"
"""Where a copy for another process has the parts from outside."""
OWN = {"method": "method", "seed": "random_state", "modalities": "modalities", "task": "y"}
"""Settings of a run that are arguments here."""


class _Estimator(BaseEstimator):
    """What the estimators share.

    Args: those of `CM2Classifier`.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any] | None = None,
        *,
        method: str = "cm2",
        profile: str = "open",
        settings: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.2,
        random_state: Any = 0,
        credentialed: bool = True,
    ) -> None:
        self.modalities = modalities
        self.method = method
        self.profile = profile
        self.settings = settings
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.credentialed = credentialed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments; with ``deep`` also the settings, as ``train__epochs``."""
        settings = self.settings if deep and isinstance(self.settings, Mapping) else {}
        return super().get_params(deep=False) | {name.replace(".", "__"): value for name, value in settings.items()}

    def set_params(self, **params: Any) -> Self:
        """Sets arguments, and settings by names like ``train__epochs``.

        Raises:
            InputError: an unknown setting, or a value that does not fit it.
            ValueError: an unknown argument.
        """
        inner = {name: value for name, value in params.items() if name.partition("__")[0] in GROUPS and "__" in name}
        super().set_params(**{name: value for name, value in params.items() if name not in inner})
        if inner:
            self.settings = {**(self.settings or {}), **{name.replace("__", "."): value for name, value in inner.items()}}
            self._config(0)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """With the parts from outside that the settings name: a worker process does not know what a notebook defined."""
        state = super().__getstate__()
        try:
            named = set(_texts(asdict(self._config(0))))
        except ValueError:  # said when it is fitted
            return state
        return state | ({CARRIED: parts} if (parts := [part for part in carried() if part[1] in named]) else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        receive(state.get(CARRIED, ()))
        super().__setstate__({name: value for name, value in state.items() if name != CARRIED})

    def _config(self, seed: int) -> Config:
        """The configuration of the training."""
        given = dict(self.settings or {})
        if taken := [name for name in given if name in OWN]:
            raise InputError(f"settings: {taken[0]} is not among them; give it as {OWN[taken[0]]}")
        return Config.from_profile(self.profile, {**given, "method": self.method, "task": OUTCOME, "seed": seed})

    def _fit(self, X: Any, y: NDArray, task: Task, groups: Any) -> Self:
        drawn = isinstance(self.random_state, int | np.integer)
        config = self._config(int(self.random_state if drawn else check_random_state(self.random_state).randint(2**31)))
        share = self.validation_fraction
        if not 0 < share < 1:
            raise InputError(f"validation_fraction: expected a share between 0 and 1, got {share!r}; a fifth of the rows is usual")
        views = self._views(X, reset=True)
        with tempfile.TemporaryDirectory(prefix="cm2-", ignore_cleanup_errors=True) as folder, in_the_words_of("estimator"):
            cohort = from_frames(
                views,
                {OUTCOME: y},
                out=Path(folder) / "cohort",
                split=(1 - share, share),
                groups=None if groups is None else np.asarray(groups),
                tasks={OUTCOME: task},
                name="estimator",
                credentialed=self.credentialed,
                seed=config.seed,
            )
            self.trained_: TrainedMethod = train_in_memory(config, cohort, Path(folder) / "training")
        self.model_, self.history_ = self.trained_.method, self.trained_.history
        return self

    def _predicted(self, X: Any) -> pd.DataFrame:
        check_is_fitted(self)
        return self.trained_.predict(self._views(X, reset=False))

    def _views(self, X: Any, reset: bool) -> dict[str, Any]:
        """The modalities of rows, of which ``reset`` says whether they are those to be fitted."""
        if _is_mapping(X) and self.modalities is None:
            return {str(name): _positional(value) for name, value in X.items()}
        X = self._columns(X, reset)
        if self.modalities is None:
            return {"table": Table(X)}
        if not isinstance(self.modalities, Mapping) or not self.modalities:
            raise InputError(
                f"modalities: expected names with their columns, got {self.modalities!r:.60}; for example {{'labs': ['sodium']}}"
            )
        return {name: _view(X, columns, name) for name, columns in self.modalities.items()}

    def _columns(self, X: Any, reset: bool) -> pd.DataFrame:
        """Rows and columns, with what scikit-learn remembers of them."""
        if hasattr(X, "to_pandas"):
            X = plain(X, "X")
        if isinstance(X, pd.DataFrame) or _is_mapping(X):
            frame = X.reset_index(drop=True) if isinstance(X, pd.DataFrame) else pd.DataFrame({name: _cells(X[name]) for name in X})
            if not len(frame):
                raise InputError(f"X: found array with 0 sample(s) (shape={frame.shape}) while a minimum of 1 is required")
            if reset:
                self.n_features_in_ = frame.shape[1]
                if all(isinstance(column, str) for column in frame.columns):
                    self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
            return frame
        return pd.DataFrame(validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.dict = True
        return tags


class CM2Classifier(ClassifierMixin, _Estimator):
    """Classifies rows of several modalities, two classes or more, by CM² or another method.

    Args:
        modalities: by name the columns of a modality: a list of columns is a table of numbers, categories, dates and truth values; one
            column is what its cells are, numbers, texts, arrays ``(T, F)``, pairs ``(times, values)`` or images. A slice means columns by
            position. For options, `cm2.cohorts.Table`, ``TimeSeries``, ``Images``, ``Texts`` or ``Arrays`` with columns in the place of
            data. None: all columns are one table, or, if X is a mapping, its entries are the modalities.
        method: any method's name; most join two or more modalities.
        profile: where the settings come from: ``smoke``, ``quick``, ``open``, ``paper``, or the path of a TOML file.
        settings: that differ from the profile's, by dotted name: ``{"train.epochs": 20}``. ``set_params`` and searches also take
            ``train__epochs``.
        validation_fraction: of the rows, or of the groups, on which the epoch is chosen; stratified by ``y``.
        random_state: a whole number from 0 on, of everything random; None or a generator of NumPy: drawn anew by each ``fit``.
        credentialed: whether the data are protected, as those of patients are: then no error names a value, categories of fewer than ten
            rows are merged, and a column measured in fewer than ten training rows is refused. False is for data that anybody may have.

    Attributes:
        classes_: the classes, sorted; ``(K,)``.
        model_: the trained `cm2.methods.Method`.
        history_: one row for each epoch, as far as it may be shown.
    """

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Trains on rows.

        Args:
            X: a data frame, an array ``(n, F)``, or a mapping of modalities; NaN, None and NaT are missing, and a row in which all
                of a modality is missing lacks it.
            y: ``(n,)`` classes of any type.
            groups: ``(n,)`` subject of each row: none is both trained on and used to choose the epoch.

        Raises:
            ValueError: what `cm2.cohorts.from_frames` and the method refuse, a missing label, or a single class.
        """
        y = _target(self, X, y, None)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y: one class alone, {str(self.classes_[0])!r:.40}; a classifier needs two or more")
        names = _class_names(self.classes_)
        task = Binary(OUTCOME, "class 1") if len(names) == 2 else Multiclass(OUTCOME, "class", classes=names)
        return self._fit(X, codes, task, groups)

    def predict_proba(self, X: Any) -> NDArray:
        """Probabilities ``(n, K)`` in the order of ``classes_``.

        Raises:
            ValueError: what `cm2.cohorts.Layout.values` refuses, such as a column that is missing.
        """
        frame = self._predicted(X)
        found = frame[list(self.model_.task.prediction_columns)].to_numpy(dtype=np.float64)
        return np.hstack([1 - found, found]) if len(self.classes_) == 2 else found / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray:
        """The most probable class of each row ``(n,)``; errors are those of `predict_proba`."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class CM2Regressor(RegressorMixin, _Estimator):
    """Predicts a number for rows of several modalities, by CM² or another method.

    Args:
        modalities: this and all other arguments are those of `CM2Classifier`.

    Attributes:
        model_: the trained `cm2.methods.Method`.
        history_: one row for each epoch, as far as it may be shown.
    """

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Trains on rows; see `CM2Classifier.fit`, but ``y`` are finite numbers ``(n,)`` that differ."""
        return self._fit(X, _target(self, X, y, np.float64), Regression(OUTCOME, "a number"), groups)

    def predict(self, X: Any) -> NDArray:
        """The number ``(n,)`` in the unit of ``y``; errors are those of `CM2Classifier.predict_proba`."""
        return self._predicted(X)[self.model_.task.prediction_columns[0]].to_numpy(dtype=np.float64)


def _target(estimator: BaseEstimator, X: Any, y: Any, dtype: Any) -> NDArray:
    """Labels ``(n,)`` without gaps, as many as X has rows."""
    if y is None:
        raise InputError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    y = column_or_1d(check_array(y, ensure_2d=False, dtype=dtype, input_name="y", estimator=estimator), warn=True)
    if missing := np.flatnonzero(pd.isna(y)).tolist():
        raise InputError(f"y, row {missing[0] + 1}: the label is missing; leave such rows out")
    for rows in X.values() if _is_mapping(X) else (X,):
        check_consistent_length(rows, y)
    if len(y) < 2:
        raise InputError("y: n_samples = 1; give two or more rows, some to train on and some to choose the epoch")
    return y


def _texts(value: Any) -> Iterator[str]:
    """All texts in a tree of mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _class_names(classes: NDArray) -> tuple[str, ...]:
    """The classes as texts, for errors and columns; their numbers where a text is no plain name."""
    names = tuple(map(str, classes))
    try:
        plain_names = len({plain_name(name) for name in names}) == len(names)
    except InputError:
        plain_names = False
    return names if plain_names else tuple(map(str, range(len(names))))


def _view(X: pd.DataFrame, columns: Any, name: str) -> Any:
    """A modality of some columns."""
    if isinstance(columns, Declared):
        return replace(columns, data=_chosen(X, columns.data, name))
    found = _chosen(X, columns, name)
    return Table(found) if isinstance(found, pd.DataFrame) else found


def _chosen(X: pd.DataFrame, columns: Any, name: str) -> pd.DataFrame | pd.Series:
    if isinstance(columns, slice):
        found = X.iloc[:, columns]
    elif isinstance(columns, str | int | np.integer):
        found = X.rename(columns={columns: str(columns)}) if columns in X.columns else X
        return column_of(found, str(columns), f"X ({name})")
    elif isinstance(columns, Sequence | np.ndarray | pd.Index):
        known = {str(column) for column in X.columns}
        if missing := [str(column) for column in columns if str(column) not in known]:
            raise InputError(f"X: no column {', '.join(missing)} for {name}; it has {', '.join(sorted(known)):.200}")
        found = X[list(columns)]
    else:
        raise InputError(f"modalities: {name} is {columns!r:.60}; give a column, a list of columns, or a slice")
    if not found.shape[1]:
        raise InputError(f"modalities: {name} has no column; X has {X.shape[1]} feature(s)")
    return found.rename(columns=str)


def _is_mapping(X: Any) -> bool:
    """Whether X has its modalities or columns by name; some sparse arrays are mappings of positions."""
    return isinstance(X, Mapping) and not issparse(X)


def _positional(value: Any) -> Any:
    """A modality whose rows are in order, whatever their index."""
    if isinstance(value, Declared):
        return replace(value, data=_positional(value.data))
    return value.reset_index(drop=True) if isinstance(value, pd.DataFrame | pd.Series) else value


def _cells(value: Any) -> Any:
    value = _positional(value)
    return value if isinstance(value, pd.Series) else pd.Series(list(value))
