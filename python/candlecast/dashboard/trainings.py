"""Training jobs: each a `candlecast train …` in a process of its own, at low priority. Knows no training and no table.

The trainer itself keeps its session on record, under the id it is given here; what fails before is remembered here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Literal, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from candlecast.dashboard.problems import Refused
from candlecast.lifecycle import Child, give_way, last_lines
from candlecast.settings import Settings

RUNNING_MAX: Final = 1
"""Trainings at once: a second one would only make both slower."""
REMEMBERED_MAX: Final = 100
"""Jobs that ended, of which is known how."""
NICENESS: Final = 15
log = logging.getLogger(__name__)

Family = Literal["patchtst", "lstm", "xgboost", "lightgbm"]
NETWORKS: Final = ("patchtst", "lstm")
Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9._:/][A-Z0-9._:/-]{0,31}$")]
"""Of candles; what begins with a dash would be a flag."""


class TrainingRequest(BaseModel):
    """What to train; the candles are those of the database."""

    model_config = ConfigDict(extra="forbid")

    family: Family
    symbols: list[Symbol] | None = Field(None, min_length=1, max_length=1_000, description="default: all")
    interval_ms: int = Field(900_000, ge=1, le=2**40)
    start: str | None = Field(None, pattern=r"^\d{4}-\d\d-\d\d$", description="first day, UTC")
    end: str | None = Field(None, pattern=r"^\d{4}-\d\d-\d\d$", description="the day before which candles open")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="of the bundle; default: the next one")
    folds: int | None = Field(None, ge=1, le=20, description="walk-forward folds")
    epochs: int | None = Field(None, ge=1, le=1_000, description="of a network")
    stride: int | None = Field(None, ge=1, le=10_000, description="every n-th candle is a sample")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    target: Literal["direction", "volatility", "profitable"] | None = Field(
        None, description="of trees, instead of the 20 outputs; such a bundle is not served"
    )
    hours: float | None = Field(None, gt=0, le=10_000, description="that the target looks ahead")

    def arguments(self) -> list[str]:
        """Return the flags of `candlecast train`."""
        flags = {
            "--interval-ms": self.interval_ms,
            "--from": self.start,
            "--to": self.end,
            "--folds": self.folds,
            "--epochs": self.epochs,
            "--stride": self.stride,
            "--seed": self.seed,
            "--target": self.target,
            "--hours": self.hours,
        }
        given = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        return [*given, *(["--symbols", *self.symbols] if self.symbols else [])]


class Job:
    """One training that was begun here."""

    def __init__(self, id: UUID, request: TrainingRequest, version: int, log_path: Path) -> None:
        self.id, self.request, self.version, self.log_path = id, request, version, log_path
        self.started_ms = round(time.time() * 1000)
        self.exit: int | None = None
        self.error: str | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def status(self) -> str:
        if self.exit is None:
            return "starting"
        return "finished" if self.exit == 0 else "failed"


class Trainings:
    """Runs trainings while it is entered; leaving it ends what runs, which is then on record as interrupted."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._environment = {**os.environ, "DATABASE_URL": database_url, "CANDLECAST_DATABASE_URL": database_url}
        self._jobs: dict[UUID, Job] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        tasks = [job.task for job in self._jobs.values() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def find(self, id: UUID) -> Job | None:
        """Return a job that was begun here."""
        return self._jobs.get(id)

    def start(self, request: TrainingRequest, version: int) -> Job:
        """Begin a training.

        Raises:
            Refused: another runs, or this installation cannot train.
        """
        if any(find_spec(name) is None for name in ("torch", "onnx", "xgboost", "lightgbm")):
            raise Refused(503, "TRAINING_UNAVAILABLE", "training needs torch and others: run `make train-env`")
        if sum(job.exit is None for job in self._jobs.values()) >= RUNNING_MAX:
            raise Refused(409, "TRAINING_RUNS", "a training runs already: wait for its end, or stop it")
        for ended in [id for id, job in self._jobs.items() if job.exit is not None][:-REMEMBERED_MAX]:
            del self._jobs[ended]
        id = uuid4()
        job = Job(id, request, version, self._settings.state_dir / "logs" / f"training-{id}.log")
        self._jobs[id] = job
        job.task = asyncio.create_task(self._run(job))
        return job

    async def stop(self, id: UUID) -> Job | None:
        """End a training as Ctrl-C would: the best step so far becomes its bundle."""
        job = self._jobs.get(id)
        if job is not None and job.task is not None and job.exit is None:
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
        return job

    async def _run(self, job: Job) -> None:
        out = self._settings.state_dir / "trained" / str(job.id) / job.request.family / str(job.version)
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "candlecast", "train", job.request.family, "--data", "database"]
        command += ["--out", str(out), "--version", str(job.version), "--session", str(job.id)]
        child = Child(
            "training",
            [*command, *job.request.arguments()],
            env=self._environment,
            log_path=job.log_path,
            stop_signals=(signal.SIGINT,),
            stop_timeout_ms=self._settings.stop_timeout_ms,
            death_signal=signal.SIGINT,
        )
        log.info("training begins id=%s family=%s version=%d", job.id, job.request.family, job.version)
        runs = False
        try:
            async with child:
                runs = True
                with suppress(ProcessLookupError):  # it may have ended already
                    give_way(NICENESS, child.pid)
                await child.wait()
        except OSError as error:
            job.error = str(error)
        finally:
            exit = child.returncode if runs else None
            job.exit = 1 if exit is None else exit
            if job.exit != 0 and job.error is None:
                job.error = last_lines(job.log_path, 1).removeprefix("candlecast: ") or f"exit code {job.exit}"
            log.info("training ended id=%s exit=%s", job.id, job.exit)
