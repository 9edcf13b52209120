"""What a GPU machine without a network needs beside a checkout, in one archive: tritonserver, its Python backend, one
stub, their libraries, the gRPC client's packages, and the model repository with its PyTorch program.

Usage: python bench/gpu_kit.py build/gpu-kit.tar.xz [--python 3.12] [--libpython FILE]. Prints every file and its size.
The wheel's other stubs, its copy of libpython3.13 and its cache plug-in stay behind. The machine itself must have
Python of that version with torch and numpy, glibc, libstdc++ and, unless it is packed, libpython.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("grpcio", "protobuf", "tritonclient", "python-rapidjson", "ml-dtypes", "packaging")
"""What candlecast.triton imports beside numpy, in the versions of this environment."""


def libraries(binary: Path, folder: Path) -> set[Path]:
    """Return the libraries of `folder` that the binary loads, by the loader's own word."""
    said = subprocess.run(
        ["ldd", binary], capture_output=True, text=True, check=True, env={**os.environ, "LD_LIBRARY_PATH": str(folder)}
    )
    words = {Path(word).resolve() for line in said.stdout.splitlines() for word in line.split() if word[:1] == "/"}
    return {path for path in words if path.parent == folder.resolve()}


def lay_out(kit: Path, triton_env: Path, python: str, libpython: Path | None) -> None:
    """Copy tritonserver's part as it lies in its environment, so that `Environment.find` takes the kit for one."""
    site = next(triton_env.glob("lib/python3.*/site-packages"))
    server, shared = site / "pytriton" / "tritonserver", site / "nvidia_pytriton.libs"
    wanted = [
        server / "bin" / "tritonserver",
        server / "backends" / "python" / "libtriton_python.so",
        server / "python_backend_stubs" / python / "triton_python_backend_stub",
    ]
    needed = set().union(*(libraries(binary, shared) for binary in wanted))
    there = kit / "lib" / f"python{python}" / "site-packages"
    for path in (*wanted, server / "backends" / "python" / "triton_python_backend_utils.py", *sorted(needed)):
        copy = there / path.resolve().relative_to(site.resolve())
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    if libpython:
        copy = there / "nvidia_pytriton.libs" / f"libpython{python}.so.1.0"
        shutil.copy2(libpython, copy)
        subprocess.run(["strip", "--strip-unneeded", copy], check=True)


def add_packages(folder: Path, python: str) -> None:
    """Install the client's packages for that Python, from wheels alone."""
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    command = [uv, "pip", "install", "--quiet", "--target", str(folder), "--python-version", python, "--no-deps"]
    subprocess.run([*command, "--only-binary", ":all:", "--no-compile", *pinned], check=True)


def add_repository(folder: Path) -> None:
    """Copy the model repository and give its newest version the program."""
    shutil.copytree(ROOT / "triton_models", folder)
    newest = max((folder / "patchtst").glob("[0-9]*"), key=lambda path: int(path.name))
    if not (newest / "model.pt2").exists():
        subprocess.run([sys.executable, "-m", "candlecast", "export", newest], check=True, stdout=sys.stderr)


def main() -> None:
    """Build the archive and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--python", default="3.12", help="of the GPU machine (default %(default)s)")
    parser.add_argument("--libpython", type=Path, help="libpython3.X.so.1.0 to pack, where the machine has none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kit = Path(temporary) / "kit"
        lay_out(kit, ROOT / ".venv-triton", args.python, args.libpython)
        add_packages(kit / "site", args.python)
        add_repository(kit / "repository")
        sizes = {path.relative_to(kit): path.stat().st_size for path in sorted(kit.rglob("*")) if path.is_file()}
        grouped: dict[str, int] = {}
        for path, size in sizes.items():
            group = "/".join(path.parts[:2]) if path.parts[0] == "site" else str(path)
            grouped[group] = grouped.get(group, 0) + size
        for group, size in sorted(grouped.items(), key=lambda item: -item[1]):
            print(f"{size:12,d}  {group}")
        args.archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(args.archive, "w:xz") as archive:
            archive.add(kit, "kit")
        print(f"{sum(sizes.values()):12,d}  in {len(sizes)} files; {args.archive.stat().st_size:,d} bytes packed")


if __name__ == "__main__":
    main()
