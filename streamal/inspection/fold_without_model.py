"""A fold for those who only want the figures: what the topics say, without the model's work."""

from __future__ import annotations

from streamal.bootstrap.assembly import new_fold
from streamal.config import Config
from streamal.core.fold import Fold

__all__ = ["counting_fold"]

_NO_MODEL = {"pipeline": ({"use": "dummy.PriorClassifier"},), "factory": None, "warm_start": None}


def counting_fold(config: Config) -> Fold:
    """Return a fold that counts: whatever the model is, it is neither begun nor trained nor compared."""
    fold = new_fold(config.model_copy(update={"model": config.model.model_copy(update=_NO_MODEL)}))
    fold.start, fold.control = None, None
    return fold
