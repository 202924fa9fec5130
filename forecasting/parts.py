"""A forecaster as plain parts, as an artefact holds them, and back."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE, X_BITSET_INNER_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from forecasting.features import feature_names
from forecasting.forecaster import Forecaster, live_plan
from forecasting.model import HorizonModel

_LINE = ("mean", "deviation", "slope", "intercept")


def parts(forecaster: Forecaster) -> dict[str, object]:
    """Estimators, arrays and plain values, from which `from_parts` makes the forecaster again."""
    return {
        "name": forecaster.name,
        "step_seconds": forecaster.step_seconds,
        "weekdays": forecaster.weekdays,
        "models": [
            None if model is None else {**_tree_parts(model.trees), **{name: getattr(model, name) for name in _LINE}}
            for model in forecaster.models
        ],
    }


def from_parts(found: Mapping[str, Any]) -> Forecaster:
    """The forecaster that `parts` took apart.

    Raises:
        ValueError: they don't fit one another.
        KeyError, TypeError: parts are missing, or are none of these.
    """
    plan = live_plan(found["step_seconds"])
    models = tuple(None if each is None else _model(each) for each in found["models"])
    if len(models) != plan.layout.horizons:
        raise ValueError(f"{len(models)} models for {plan.layout.horizons} horizons")
    return Forecaster(found["name"], found["step_seconds"], models, plan, found["weekdays"])


def _tree_parts(trees: HistGradientBoostingRegressor) -> dict[str, object]:
    """The estimator without its trees, and the nodes of all of its trees in a row.

    A thousand trees, three arrays each, take seconds to write and to read one by one.
    """
    bare = copy(trees)
    bare._predictors = []
    nodes = [tree.nodes for (tree,) in trees._predictors]
    return {"bare_trees": bare, "nodes": np.concatenate(nodes), "nodes_a_tree": np.array([len(each) for each in nodes])}


def _model(found: Mapping[str, Any]) -> HorizonModel:
    line = {name: found[name] for name in _LINE}
    trees, nodes, sizes = found["bare_trees"], found["nodes"].astype(PREDICTOR_RECORD_DTYPE), found["nodes_a_tree"]
    if not isinstance(trees, HistGradientBoostingRegressor):
        raise TypeError(f"{type(trees).__name__} is no trees")
    # What this process will feed them, not what the file says of itself.
    features = len(feature_names())
    _refuse_other_line(line, features)
    _refuse_broken(nodes, sizes, features)
    no_categories = np.empty((0, 8), dtype=X_BITSET_INNER_DTYPE)
    each_tree = np.split(nodes, np.cumsum(sizes)[:-1])
    trees._predictors = [[TreePredictor(each, no_categories, no_categories)] for each in each_tree]
    return HorizonModel(trees, **line)


def _refuse_other_line(line: Mapping[str, Any], features: int) -> None:
    for name, shape in (("mean", (features,)), ("deviation", (features,)), ("slope", (features,)), ("intercept", ())):
        found = np.asarray(line[name])
        if found.shape != shape or found.dtype != np.float64 or not np.isfinite(found).all():
            raise ValueError(f"the line's {name} is not of {features} features, or not finite")
    if (line["deviation"] <= 0).any():
        raise ValueError("the line's deviation is not above zero")


def _refuse_broken(nodes: NDArray[Any], sizes: NDArray[np.int64], features: int) -> None:
    """Trees are walked in C, which checks nothing: a branch that leads out, or back, ends or hangs the process."""
    if nodes.ndim != 1 or not len(sizes) or sizes.min() < 1 or sizes.sum() != len(nodes):
        raise ValueError(f"{len(nodes)} nodes do not make {len(sizes)} trees")
    size = np.repeat(sizes, sizes)
    place = np.arange(len(nodes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    branch = nodes["is_leaf"] == 0
    leads_on = np.ones(len(nodes), dtype=np.bool_)
    for side in ("left", "right"):
        leads_on &= (nodes[side] > place) & (nodes[side] < size)
    known = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < features) & (nodes["is_categorical"] == 0)
    if not (leads_on & known)[branch].all():
        raise ValueError("a tree has a branch that leads nowhere")
    # A threshold may be infinite: what is known goes to one side then, what is unknown to the other.
    if np.isnan(nodes["num_threshold"][branch]).any() or not np.isfinite(nodes["value"][~branch]).all():
        raise ValueError("a tree has a threshold or a value that is no number")
