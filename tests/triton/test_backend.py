"""The backend's own guard, without Triton: the rest of it is tested through a server."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest

from candlecast.triton.environment import BACKENDS


def test_it_refuses_to_serve_under_the_numpy_that_corrupts_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.__version__.startswith("2."), "the application's numpy"
    monkeypatch.syspath_prepend(str(BACKENDS / "python"))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))
    spec = importlib.util.spec_from_file_location("backend", BACKENDS / "onnxruntime" / "model.py")
    assert spec and spec.loader
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    with pytest.raises(ValueError, match=r"corrupts tensors under numpy 2\."):
        backend.TritonPythonModel().initialize({})
