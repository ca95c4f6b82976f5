"""What HTTP alone costs: the same HTTP server with an application that reads the body and says 200.

python bench/bare.py; prints its port, and ends with its standard input.
"""

import os
import socket
import sys
import threading
from typing import Any

import uvicorn


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(
        answer,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.Server(config).run(sockets=[listening])


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
