"""Where tritonserver lies in its virtual environment and what it needs to run. Knows no process and no model."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from candlecast.errors import ConfigurationError

BACKENDS = Path(__file__).parent / "backends"
STUB = "python/triton_python_backend_stub"
UTILS = "python/triton_python_backend_utils.py"


@dataclass(frozen=True, slots=True)
class Environment:
    """Virtual environments: one with nvidia-pytriton, numpy 1.26 and onnxruntime; perhaps another for the stubs."""

    server: Path
    stub: Path
    """The Python stub for the Python version of its environment."""
    variables: dict[str, str]
    """All that tritonserver sees of the process environment: no PYTHONPATH of ours may reach its stubs."""

    @classmethod
    def find(cls, env_dir: Path, stub_env_dir: Path | None = None, *, gpu: bool = False) -> Environment:
        """Find the binaries in the virtual environment `env_dir`.

        Args:
            stub_env_dir: the environment that stubs import from, one with torch; by default env_dir.
            gpu: let the stubs see the machine's GPUs.

        Raises:
            ConfigurationError: they are not there.
        """
        binaries = next(env_dir.glob("lib/python3.*/site-packages/pytriton/tritonserver"), None)
        if binaries is None:
            raise ConfigurationError(f"{env_dir} holds no tritonserver: run `make`")
        site_packages = binaries.parent.parent
        imports = site_packages
        if stub_env_dir is not None:
            torch = next(stub_env_dir.glob("lib/python3.*/site-packages/torch"), None)
            if torch is None:
                raise ConfigurationError(f"{stub_env_dir} holds no torch: run `make train-env` (uv sync --extra train)")
            imports = torch.parent
        python = imports.parent.name  # python3.11
        stub = binaries / "python_backend_stubs" / python.removeprefix("python") / Path(STUB).name
        if not stub.is_file():
            raise ConfigurationError(f"{stub_env_dir or env_dir} is of {python}, for which Triton has no stub")
        interpreter = imports.parents[2] / "bin/python3"
        libraries = [site_packages / "nvidia_pytriton.libs", interpreter.resolve().parent.parent / "lib"]
        if gpu:  # the driver's, where they are not among the system's
            libraries += map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")))
        variables = {
            # The stub takes the site-packages of the first python3 here; Triton starts it by bash.
            "PATH": f"{interpreter.parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "LANG": "C.UTF-8",
            # The wheel's ONNX Runtime is for the CPU, and neither numpy nor OpenMP shall start a thread per core.
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if gpu else "",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return cls(binaries / "bin/tritonserver", stub, variables)

    def lay_out(self, directory: Path) -> None:
        """Make the backend directory: the wheel's `python` with its stub, and our backends on top of it.

        Everything is copied: Triton refuses links that leave the directory and may change the stub's mode.

        Raises:
            ConfigurationError: the stub does not run here.
        """
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.server.parent.parent / "backends", directory)
        shutil.copytree(BACKENDS, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        utils = directory / UTILS  # imports numpy, which takes a third of a load: what gives way must come before
        utils.write_text(f"import giving_way\n{utils.read_text()}")
        stub = shutil.copy(self.stub, directory / STUB)
        run = subprocess.run([stub], env=self.variables, capture_output=True, text=True, check=False, timeout=30)
        if run.returncode != 1:  # 1: it ran and misses its arguments
            hint = "; install that library (Debian: libpython3.X)" if "libpython" in run.stderr else ""
            raise ConfigurationError(f"Triton's Python stub does not run: {run.stderr.strip() or run.returncode}{hint}")
