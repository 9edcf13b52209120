"""An ensemble: a manifest.json that names bundles and their weights, and these bundles. Knows no server.

REPOSITORY/ensemble/1/manifest.json      the Manifest below
REPOSITORY/patchtst/1/ ...               its members, ordinary bundles of the same repository; or, to be carried about,
REPOSITORY/ensemble/1/patchtst/1/ ...    in a folder of its own
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from candlecast import __version__
from candlecast import outputs as layout
from candlecast.ensemble import DEGRADED, combine, skill, weights_of
from candlecast.errors import BundleError, Refusal
from candlecast.models.bundle import FILES, FORECAST, Bundle
from candlecast.models.folder import MANIFEST
from candlecast.outputs import HORIZONS
from candlecast.values import F32, F64

FORMAT: Final = 1
NAME: Final = "ensemble"
MEMBERS_MAX: Final = 16
MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Of a member: it becomes part of a path."""
RESERVED: Final = "gate"
WEIGHT_TOLERANCE: Final = 1e-5
ANSWER_TOLERANCE: Final = 0.02
"""Of returns, logits and risks each, relative to the largest: what fp16 and another thread count leave."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an ensemble."""

    name: str
    version: int
    sha256: str  # of its manifest.json, hence of everything
    log_loss: dict[str, dict[str, float]]  # by horizon: model, base, skill; walk-forward, mean of the folds
    skill: float  # mean over the horizons
    weight: float  # 0: it is not asked


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says, field for field."""

    name: str
    version: int
    created_at: str  # ISO 8601, UTC
    candlecast: str  # the version that wrote it
    weighting: Literal["skill", "equal"]  # equal: no member beats the base rate
    feature_set: str  # hash, 16 hex digits, of every member's
    reference_symbol: str | None
    members: list[Member]
    format: int = FORMAT


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """An ensemble whose members were loaded and are those that its manifest names."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, hence of all members
    members: tuple[Bundle, ...]  # those with a weight
    weights: F64  # [M] of these, their sum 1

    @property
    def feature_set_hash(self) -> int:
        """The 64-bit hash of the feature set of every member."""
        return self.members[0].feature_set_hash

    @property
    def temperatures(self) -> F64:
        """The calibration [M, 4] of the members."""
        return np.array([bundle.manifest.temperatures for bundle in self.members])

    @classmethod
    def load(cls, path: Path) -> Ensemble:
        """Read the ensemble in folder `path`, and its members from there or from the repository that holds it.

        Raises:
            BundleError: a manifest or a member is missing, damaged, or not the one that was weighed.
        """
        manifest, text = _read(path)
        asked = [member for member in manifest.members if member.weight > 0]
        bundles = []
        for member in asked:
            bundle = Bundle.load(member_place(path, member))
            if (bundle.manifest.name, bundle.manifest.version) != (member.name, member.version):
                raise BundleError(
                    f"{bundle.path} is {bundle.manifest.name} v{bundle.manifest.version}, no {member.name}"
                )
            if bundle.sha256 != member.sha256:
                raise BundleError(
                    f"{path}: {bundle.path} has changed since the ensemble was made: weigh its members again with"
                    " `candlecast ensemble`"
                )
            bundles.append(bundle)
        require_equal_features(bundles)
        weights = np.array([member.weight for member in asked])
        return cls(path, manifest, hashlib.sha256(text).hexdigest(), tuple(bundles), weights / weights.sum())

    def check_weights(self) -> None:
        """Raise BundleError unless each weighs what its walk-forward skill gives it, as its own manifest says that."""
        skills = np.array([_mean_skill(member.log_loss) for member in self.manifest.members])
        said, given = [member.weight for member in self.manifest.members], weights_of(skills)
        if not np.allclose(said, given, rtol=0, atol=WEIGHT_TOLERANCE):
            raise BundleError(
                f"{self.path}: the weights are {said}; the skills give {np.round(given, 6).tolist()}: weigh its members"
                " again with `candlecast ensemble`",
                Refusal.WRONG_WEIGHTS,
            )
        asked = (member for member in self.manifest.members if member.weight > 0)
        for member, bundle in zip(asked, self.members, strict=True):
            if _log_losses(bundle) != member.log_loss:
                raise BundleError(
                    f"{self.path}: the log-loss of {member.name} v{member.version} is not what its own manifest says:"
                    " weigh its members again with `candlecast ensemble`",
                    Refusal.WRONG_WEIGHTS,
                )

    @property
    def golden_inputs(self) -> F32:
        """Return what the set is asked: the golden inputs [4, 96, F] of its first member."""
        return self.members[0].golden_inputs

    @property
    def golden_outputs(self) -> F32 | None:
        """Return what the set answers to these [4, 22]; None: not all members have the same golden inputs."""
        if any(not np.array_equal(bundle.golden_inputs, self.golden_inputs) for bundle in self.members):
            return None
        return combine([bundle.golden_outputs for bundle in self.members], self.temperatures, self.weights)

    def misfit(self, answers: F32) -> str:
        """Say what is wrong with `answers` [4, 22] of the set to its golden inputs; nothing: they are right."""
        if not np.isfinite(answers).all():
            return "the set answers its golden inputs with values that are not finite"
        if answers[:, DEGRADED].any():
            return "a member of the set did not answer its golden inputs"
        if (golden := self.golden_outputs) is not None:
            for block in (layout.RETURNS, layout.LOGITS, layout.RISKS):
                worst, largest = np.abs(answers[:, block] - golden[:, block]).max(), np.abs(golden[:, block]).max()
                if worst > ANSWER_TOLERANCE * largest + 1e-6:
                    return f"the set computes wrong values: off by {worst:.2g}, of at most {largest:.2g}"
        return ""


def load(path: Path) -> Bundle | Ensemble:
    """Read what lies in folder `path`: a bundle, or an ensemble and its members.

    Raises:
        BundleError: it is damaged.
    """
    return Ensemble.load(path) if is_ensemble(path) else Bundle.load(path)


def members_of(served: Bundle | Ensemble) -> tuple[Bundle, ...]:
    """Return the bundles that are asked."""
    return served.members if isinstance(served, Ensemble) else (served,)


def asked_of(path: Path) -> list[Member]:
    """Return the members of the ensemble in a folder that have a weight; they need not be there.

    Raises:
        BundleError: its manifest is damaged.
    """
    return [member for member in _read(path)[0].members if member.weight > 0]


def member_place(path: Path, member: Member) -> Path:
    """Return where a member of the ensemble in folder `path` lies: in there, or else in the same repository."""
    inside = path / member.name / str(member.version)
    return inside if inside.exists() else path.parent.parent / member.name / str(member.version)


def contents(path: Path) -> dict[str, Path]:
    """Return every file of what lies in a folder, by its name in a folder of its own, as patchtst/1/model.onnx.

    Raises:
        BundleError: it is an ensemble whose manifest is damaged.
    """
    places = {"": path}
    if is_ensemble(path):
        places |= {f"{one.name}/{one.version}/": member_place(path, one) for one in asked_of(path)}
    names = {prefix: (MANIFEST,) if len(places) > 1 and not prefix else FILES for prefix in places}
    return {
        f"{prefix}{name}": place / name
        for prefix, place in places.items()
        for name in names[prefix]
        if (place / name).exists()
    }


def is_ensemble(path: Path) -> bool:
    """Say whether the folder holds an ensemble, and no model of its own."""
    try:
        return "members" in json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def weigh(bundles: Sequence[Bundle], version: int) -> Manifest:
    """Return the manifest of an ensemble of these, weighted by their walk-forward skill over the base rate.

    Raises:
        BundleError: one says no skill, they have not the same features, or one is named twice.
    """
    require_equal_features(bundles)
    named = [(bundle.manifest.name, bundle.manifest.version) for bundle in bundles]
    if twice := {f"{name} v{number}" for name, number in named if named.count((name, number)) > 1}:
        raise BundleError(f"named twice: {', '.join(sorted(twice))}")
    losses = [_log_losses(bundle) for bundle in bundles]
    skills = np.array([_mean_skill(of) for of in losses])
    features = bundles[0].manifest.feature_set
    return Manifest(
        name=NAME,
        version=version,
        created_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        candlecast=__version__,
        weighting="skill" if (skills > 0).any() else "equal",
        feature_set=features.hash,
        reference_symbol=features.reference_symbol,
        members=[
            Member(name, number, bundle.sha256, loss, round(float(ability), 6), round(float(weight), 6))
            for (name, number), bundle, loss, ability, weight in zip(
                named, bundles, losses, skills, weights_of(skills), strict=True
            )
        ],
    )


def write(path: Path, manifest: Manifest) -> Ensemble:
    """Write the ensemble to folder `path`, replacing one that is there, and return it as loaded.

    Raises:
        BundleError: the members do not lie in the repository of `path`, or it holds something else or cannot be
            written; what was there stays as it was.
    """
    path = path.absolute()
    if (path.parent.name, path.name) != (manifest.name, str(manifest.version)):
        raise BundleError(f"{path}: an ensemble lies in REPOSITORY/{manifest.name}/{manifest.version}")
    if path.exists() and not (path.is_dir() and {file.name for file in path.iterdir()} <= {MANIFEST}):
        raise BundleError(f"{path} holds something else than an ensemble; choose another folder")
    text = json.dumps(asdict(manifest), indent=2, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as scratch:
            new = Path(scratch) / MANIFEST
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Ensemble.load(new.parent)
            path.mkdir(exist_ok=True)
            new.replace(path / MANIFEST)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error
    return Ensemble.load(path)


def require_equal_features(bundles: Sequence[Bundle]) -> None:
    """Raise BundleError, naming who differs, unless all are forecasters trained on the same features."""
    for bundle in bundles:
        if bundle.target != FORECAST:
            raise BundleError(f"{bundle.path} is a model of {bundle.target}, no forecaster: it cannot be a member")
    given = [
        (f"{bundle.manifest.name} v{bundle.manifest.version}", asdict(bundle.manifest.feature_set))
        for bundle in bundles
    ]
    first, of_first = given[0]
    for word, key in (("feature set", "hash"), ("reference symbol", "reference_symbol")):
        differ = [f"{name} with {of[key]}" for name, of in given if of[key] != of_first[key]]
        if differ:
            raise BundleError(
                f"the members of an ensemble need the same {word}: {first} was trained with {of_first[key]},"
                f" but {', '.join(differ)}"
            )


def measured_on(bundle: Bundle) -> Any:
    """Return what skills must share to be compared: the symbols and the test spans of the folds."""
    manifest = bundle.manifest
    folds = manifest.metrics.get("walk_forward", {}).get("folds", [])
    return manifest.data.get("symbols"), [fold.get("spans", {}).get("test") for fold in folds]


def _log_losses(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Return log-loss of model and base rate, and the skill, by horizon."""
    manifest = bundle.manifest
    try:
        horizons = manifest.metrics["walk_forward"]["mean"]["horizons"]
        pairs = {h: (float(horizons[h]["log_loss"]["model"]), float(horizons[h]["log_loss"]["base"])) for h in HORIZONS}
        losses = {h: {"model": model, "base": base, "skill": skill(model, base)} for h, (model, base) in pairs.items()}
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise BundleError(
            f"{bundle.path}: its manifest has no walk-forward log-loss beside the base rate's ({error!r}), so"
            " it cannot be weighed: train it with folds"
        ) from error
    if not np.isfinite([list(loss.values()) for loss in losses.values()]).all():
        raise BundleError(f"{bundle.path}: its walk-forward log-loss is not finite")
    return losses


def _mean_skill(losses: Mapping[str, Mapping[str, float]]) -> float:
    return float(np.mean([loss["skill"] for loss in losses.values()]))


def _read(path: Path) -> tuple[Manifest, bytes]:
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {MANIFEST} cannot be read ({error.strerror})") from error
    return _manifest(path, text), text


def _manifest(path: Path, text: bytes) -> Manifest:
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise BundleError(f"{path}: ensemble format {document['format']}, this candlecast reads {FORMAT}")
        members = [Member(**member) for member in document["members"]]
        manifest = Manifest(**document | {"members": members})
        weights = [member.weight for member in members]
        is_sound = all(0 <= weight < float("inf") for weight in weights) and sum(weights) > 0
        wrong = _wrong(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: {MANIFEST} is damaged or incomplete: {error}") from error
    if wrong:
        raise BundleError(f"{path}: {MANIFEST}: {wrong}")
    if not is_sound:
        raise BundleError(f"{path}: {MANIFEST}: weights {weights} are not numbers of at least 0 with a sum above 0")
    return manifest


def _wrong(manifest: Manifest) -> str | None:
    """Say what is wrong with the members' names, which become paths; one of an unexpected type may raise TypeError."""
    if len(manifest.members) > MEMBERS_MAX:
        return f"{len(manifest.members)} members, at most {MEMBERS_MAX} can be served"
    named = [(member.name, member.version) for member in manifest.members]
    if len(set(named)) < len(named):
        return "a member is named twice"
    for name, version in named:
        if not MEMBER_NAME.fullmatch(name) or name in (manifest.name, RESERVED) or type(version) is not int:
            return f"{name!r} version {version!r} is no member"
        if version < 1:
            return f"version {version} of {name} is below 1"
    return None
