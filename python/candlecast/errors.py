"""The errors of candlecast; each knows the reason that a caller sees and knows nothing of gRPC.

CandlecastError
├── ConfigurationError      a setting, file or environment is wrong; the program exits with 78
│   └── BundleError         a model bundle is damaged or does not fit this server
├── InvalidRequest          the request as a whole is malformed; says which field
├── NotFound                what was asked about is not there
├── Overloaded              a bounded queue is full; try again later
│   └── SubscriberBehind    a subscriber reads too slowly
├── DeadlineExceeded        the answer did not come in time
├── Unauthenticated         no token, or not the one that this door wants
├── WrongState              a model version is not where this step begins; says where it is
├── ModelRefused            a model version does not pass; says why, by a code of a closed list
├── Unavailable             a part is away; retryable
│   ├── ModelUnavailable    Triton
│   └── StorageUnavailable  PostgreSQL
└── Stopped                 this server is shutting down; retryable
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class CandlecastError(Exception):
    reason: ClassVar[str] = "INTERNAL"


class ConfigurationError(CandlecastError):
    reason = "CONFIGURATION"


class Refusal(Enum):
    """Why a model version does not pass."""

    DAMAGED = "DAMAGED"  # a file is missing, cut off, or not what the manifest says it is
    SHA256_MISMATCH = "SHA256_MISMATCH"  # a file is not the one that the manifest names
    TOO_LARGE = "TOO_LARGE"  # on disk, or in memory once it runs
    WRONG_MODEL = "WRONG_MODEL"  # of another name, or an answer to another question
    FEATURE_SET_MISMATCH = "FEATURE_SET_MISMATCH"  # trained on other features than this server computes
    REFERENCE_MISMATCH = "REFERENCE_MISMATCH"  # trained with another reference symbol
    WRONG_TENSORS = "WRONG_TENSORS"  # name, type, rank, shape or number of inputs or outputs
    NOT_FINITE = "NOT_FINITE"  # the golden inputs give NaN or infinity
    GOLDEN_MISMATCH = "GOLDEN_MISMATCH"  # the golden inputs give other values
    WRONG_WEIGHTS = "WRONG_WEIGHTS"  # an ensemble's members do not weigh what their skill gives them
    TOO_SLOW = "TOO_SLOW"  # slower than the limit, a window
    CRASHED = "CRASHED"  # its process ended, or its file cannot be loaded
    TIMED_OUT = "TIMED_OUT"  # it was not loaded and answering in time
    NOT_LOADED = "NOT_LOADED"  # Triton does not load it


class BundleError(ConfigurationError):
    reason = "BUNDLE"

    def __init__(self, message: str, refusal: Refusal = Refusal.DAMAGED) -> None:
        super().__init__(message)
        self.refusal = refusal


class InvalidRequest(CandlecastError):
    reason = "INVALID_REQUEST"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class NotFound(CandlecastError):
    reason = "NOT_FOUND"


class Overloaded(CandlecastError):
    reason = "QUEUE_FULL"


class SubscriberBehind(Overloaded):
    reason = "SUBSCRIBER_BEHIND"


class DeadlineExceeded(CandlecastError):
    reason = "DEADLINE_EXCEEDED"


class Unauthenticated(CandlecastError):
    reason = "UNAUTHENTICATED"


class WrongState(CandlecastError):
    reason = "WRONG_STATE"


class ModelRefused(CandlecastError):
    reason = "MODEL_REFUSED"

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(f"{refusal.value}: {why}")
        self.refusal = refusal


class Unavailable(CandlecastError):
    reason = "UNAVAILABLE"


class ModelUnavailable(Unavailable):
    reason = "MODEL_UNAVAILABLE"


class StorageUnavailable(Unavailable):
    reason = "STORAGE_UNAVAILABLE"


class Stopped(Unavailable):
    reason = "STOPPING"
