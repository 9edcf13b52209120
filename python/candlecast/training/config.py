"""Everything about a training that can be turned, and the TOML file that turns it. Knows no data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from candlecast.errors import ConfigurationError
from candlecast.models.bundle import FOLDS_MAX
from candlecast.training.fit import FitConfig
from candlecast.training.lstm import LstmConfig
from candlecast.training.patchtst import NetworkConfig
from candlecast.training.trees import TreesConfig


@dataclass(frozen=True, slots=True)
class Config:
    """A file may hold the tables [network] (of PatchTST), [lstm], [trees] and [fit], and the numbers here."""

    folds: int = 3
    stride: int = 4  # every n-th candle of a symbol is a sample
    seed: int = 0
    rolling_bars: int = 0  # of time that a train part spans; 0: all before its validation part
    network: NetworkConfig = field(default_factory=NetworkConfig)
    lstm: LstmConfig = field(default_factory=LstmConfig)
    trees: TreesConfig = field(default_factory=TreesConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.stride < 1 or not 1 <= self.folds <= FOLDS_MAX:
            raise ConfigurationError(f"stride must be at least 1, folds 1 to {FOLDS_MAX}")
        if self.seed < 0 or self.rolling_bars < 0:
            raise ConfigurationError("seed and rolling_bars must not be negative")

    @classmethod
    def load(cls, path: Path | None) -> Config:
        """Read a TOML file; None gives the defaults.

        Raises:
            ConfigurationError: the file is unreadable or has a name or a type that does not exist here.
        """
        if path is None:
            return cls()
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: {error}") from error
        tables = {"network": NetworkConfig(), "lstm": LstmConfig(), "trees": TreesConfig(), "fit": FitConfig()}
        read = {name: _typed(path, default, document.pop(name, {})) for name, default in tables.items()}
        config: Config = _typed(path, cls(), document)
        return replace(config, **read)


def _typed(path: Path, default: Any, given: Any) -> Any:
    """Return the defaults with what the file gives, after checking each name and type."""
    kinds = {f.name: type(getattr(default, f.name)) for f in fields(default)}
    for name, value in dict(given).items():
        if name not in kinds:
            raise ConfigurationError(f"{path}: {name} is no setting; there are {', '.join(kinds)}")
        if type(value) is not kinds[name] and not (kinds[name] is float and type(value) is int):
            raise ConfigurationError(f"{path}: {name} is {value!r}, expected {kinds[name].__name__}")
    return replace(default, **given)
