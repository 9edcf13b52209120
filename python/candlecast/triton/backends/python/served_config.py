"""What config.pbtxt says to our Python backends, and whether a model keeps it. Knows no framework.

It lies in the folder of Triton's own `python` backend, the one place beside its own from which a stub imports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read(args: Mapping[str, str], default_filename: str) -> tuple[dict[str, Any], Path]:
    """Return the model's configuration and the path of its version's file.

    Raises:
        ValueError: the model does not batch; our backends serve nothing else.
    """
    config: dict[str, Any] = json.loads(args["model_config"])
    if config["max_batch_size"] < 1:
        raise ValueError("config.pbtxt: max_batch_size is missing, and this backend serves batches only")
    name = config.get("default_model_filename") or default_filename
    return config, Path(args["model_repository"]) / args["model_version"] / name


def parameter(config: Mapping[str, Any], key: str, default: str) -> str:
    """Return the string of a `parameters` entry, or the default."""
    return str(config.get("parameters", {}).get(key, {"string_value": default})["string_value"])


def check(side: str, configured: Sequence[Mapping[str, Any]], found: Mapping[str, tuple[str, Sequence[Any]]]) -> None:
    """Refuse a model whose tensors are not what config.pbtxt promises; -1 and symbolic dimensions fit anything.

    Args:
        side: "input" or "output", for the message.
        configured: the tensors of config.pbtxt, without their batch dimension.
        found: the model's, by name: type as Triton spells it (TYPE_FP32) and shape, batch first.

    Raises:
        ValueError: one is missing, or has another type or shape.
    """
    for wanted in configured:
        name = wanted["name"]
        if name not in found:
            raise ValueError(f"{side} {name!r} of config.pbtxt is not in the model, which has {sorted(found)}")
        kind, shape = found[name]
        promised = [-1] + [int(size) for size in wanted["dims"]]
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        fits = len(promised) == len(sizes) and all(
            promised[k] == sizes[k] or -1 in (promised[k], sizes[k]) for k in range(len(sizes))
        )
        if not fits or kind != wanted["data_type"]:
            raise ValueError(
                f"{side} {name!r} is {kind} {list(shape)} in the model,"
                f" {wanted['data_type']} {promised} in config.pbtxt"
            )
