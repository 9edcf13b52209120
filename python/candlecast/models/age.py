"""How long ago a model was trained, and whether that is too long. Knows no traffic."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble, members_of
from candlecast.values import Model

DAY_MS: Final = 86_400_000
EXPIRED: Final = "MODEL_EXPIRED"


def described(served: Bundle | Ensemble) -> Model:
    """Return what forecasts say of the model; an ensemble is as old as its oldest member."""
    manifest = served.manifest
    trained_ms = min(_ms(bundle.manifest.created_at) for bundle in members_of(served))
    return Model(manifest.name, manifest.version, served.sha256, served.feature_set_hash, trained_ms)


def max_age_ms(max_model_age_d: float) -> float:
    """Return the setting in ms; infinity for 0, never."""
    return max_model_age_d * DAY_MS or math.inf


def complaint(model: Model, max_model_age_d: float, now_ms: float) -> str:
    """Say that the model is too old, if it is: a reason, a colon, words."""
    age_ms = model.age_ms(now_ms)
    if age_ms <= max_age_ms(max_model_age_d):
        return ""
    return (
        f"{EXPIRED}: {model.name} v{model.version} was trained {age_ms / DAY_MS:.1f} days ago, max_model_age_d is"
        f" {max_model_age_d:g}: train it again, or promote a newer version"
    )


def _ms(iso: str) -> int:
    """Return a time in ms since 1970; 0 for what is none."""
    try:
        return round(datetime.fromisoformat(iso).timestamp() * 1000)
    except ValueError:
        return 0
