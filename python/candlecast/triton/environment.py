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


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with nvidia-pytriton, numpy 1.26 and onnxruntime, apart from the application's."""

    server: Path
    stub: Path
    """The Python stub for this environment's Python version."""
    variables: dict[str, str]
    """All that tritonserver sees of the process environment: no PYTHONPATH of ours may reach its stubs."""

    @classmethod
    def find(cls, env_dir: Path) -> Environment:
        """Find the binaries in the virtual environment `env_dir`.

        Raises:
            ConfigurationError: they are not there.
        """
        binaries = next(env_dir.glob("lib/python3.*/site-packages/pytriton/tritonserver"), None)
        if binaries is None:
            raise ConfigurationError(f"{env_dir} holds no tritonserver: run `make`")
        site_packages = binaries.parent.parent
        stub = binaries / "python_backend_stubs" / site_packages.parent.name.removeprefix("python") / Path(STUB).name
        if not stub.is_file():
            raise ConfigurationError(f"{env_dir} is of {site_packages.parent.name}, for which Triton has no stub")
        libraries = [site_packages / "nvidia_pytriton.libs", (env_dir / "bin/python3").resolve().parent.parent / "lib"]
        variables = {
            # The stub takes the site-packages of the first python3 here; Triton starts it by bash.
            "PATH": f"{env_dir / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "LANG": "C.UTF-8",
            # The wheel's ONNX Runtime is for the CPU, and neither numpy nor OpenMP shall start a thread per core.
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return cls(binaries / "bin/tritonserver", stub, variables)

    def lay_out(self, directory: Path) -> None:
        """Make the backend directory: the wheel's `python` with its stub, and our `onnxruntime` on top of it.

        Everything is copied: Triton refuses links that leave the directory and may change the stub's mode.

        Raises:
            ConfigurationError: the stub does not run here.
        """
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.server.parent.parent / "backends", directory)
        shutil.copytree(BACKENDS, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        stub = shutil.copy(self.stub, directory / STUB)
        run = subprocess.run([stub], env=self.variables, capture_output=True, text=True, check=False, timeout=30)
        if run.returncode != 1:  # 1: it ran and misses its arguments
            hint = "; install that library (Debian: libpython3.X)" if "libpython" in run.stderr else ""
            raise ConfigurationError(f"Triton's Python stub does not run: {run.stderr.strip() or run.returncode}{hint}")
