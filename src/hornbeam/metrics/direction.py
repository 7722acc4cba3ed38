"""Which way a result is better, as far as its name says."""

from __future__ import annotations

import re

_GROWS = re.compile(
    r"acc(uracy)?(_|$)|auc|precision|recall|score|iou|correlation|similarity|sensitivity|specificity|true_?|^f1|fbeta|r2"
)
_FALLS = re.compile(
    r"loss|error|crossentropy|hinge|divergence|poisson|perplexity|false_?|(^|_)(mse|mae|mape|msle|rmse|kld|nll)(_|$)"
)


def grows(name: str) -> bool | None:
    """Returns whether more of a metric is better, by its name or its class's in small letters; None where neither says it.

    >>> grows("val_accuracy"), grows("loss"), grows("gain")
    (True, False, None)
    """
    return True if _GROWS.search(name) else False if _FALLS.search(name) else None
