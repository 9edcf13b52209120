"""What a user would write without candlecast: FastAPI around ONNX Runtime, fed the window as raw bytes.

Usage: python bench/fastapi_baseline.py MODEL.onnx PORT. POST /forecast takes float32 [B, 96, 240] as the body, little
endian, and answers float32 [B, 20]. It checks nothing, computes no features and stores nothing.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

WINDOW, COLUMNS = 96, 240
KEEP_ALIVE_S = 600


def app_of(path: str) -> FastAPI:
    """Make the service around one model file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # calls run side by side in the thread pool
    session = ort.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["NchwcTransformer"]
    )
    app = FastAPI()

    @app.post("/forecast")
    async def forecast(request: Request) -> Response:
        windows = np.frombuffer(await request.body(), np.float32).reshape(-1, WINDOW, COLUMNS)
        (outputs,) = await run_in_threadpool(session.run, ["outputs"], {"features": windows})
        return Response(outputs.tobytes(), media_type="application/octet-stream")

    return app


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    uvicorn.run(
        app_of(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
