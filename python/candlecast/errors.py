"""The errors of candlecast; each knows the reason that a caller sees and knows nothing of gRPC.

CandlecastError
├── ConfigurationError      a setting, file or environment is wrong; the program exits with 78
│   └── BundleError         a model bundle is damaged or does not fit this server
├── InvalidRequest          the request as a whole is malformed; says which field
├── Overloaded              a bounded queue is full; try again later
│   └── SubscriberBehind    a subscriber reads too slowly
├── DeadlineExceeded        the answer did not come in time
├── Unavailable             a part is away; retryable
│   ├── ModelUnavailable    Triton
│   └── StorageUnavailable  PostgreSQL
└── Stopped                 this server is shutting down; retryable
"""

from __future__ import annotations

from typing import ClassVar


class CandlecastError(Exception):
    reason: ClassVar[str] = "INTERNAL"


class ConfigurationError(CandlecastError):
    reason = "CONFIGURATION"


class BundleError(ConfigurationError):
    reason = "BUNDLE"


class InvalidRequest(CandlecastError):
    reason = "INVALID_REQUEST"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class Overloaded(CandlecastError):
    reason = "QUEUE_FULL"


class SubscriberBehind(Overloaded):
    reason = "SUBSCRIBER_BEHIND"


class DeadlineExceeded(CandlecastError):
    reason = "DEADLINE_EXCEEDED"


class Unavailable(CandlecastError):
    reason = "UNAVAILABLE"


class ModelUnavailable(Unavailable):
    reason = "MODEL_UNAVAILABLE"


class StorageUnavailable(Unavailable):
    reason = "STORAGE_UNAVAILABLE"


class Stopped(Unavailable):
    reason = "STOPPING"
