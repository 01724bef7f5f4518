"""What stands before the demo page's server: who may ask, how much may be sent, how much may wait."""

import contextlib
import os
import time

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

_FRAME = 64 * 2**10  # bytes of a request around the file in it
_NAMES = ("127.0.0.1", "localhost")


class Gate:
    """ASGI middleware: refuses, with one line of text, what the page itself never sends.

    A web site that is open in the same browser can send requests to this machine, under its own `Origin`, or
    under its own name as `Host` once that name is made to lead here (DNS rebinding). Both are answered 403,
    of requests and of websockets.

    Args:
        app: what is asked if nothing is refused.
        max_bytes: of a file; a request of more than it and a little is answered 413, whether its length is
            told before or not.
        folder: where files lie until they are taken; "" = nowhere. Those of `seconds` ago are removed before
            another comes, also those that a request which broke off has left.
        max_kept: bytes in the folder; while there are more, what brings others is answered 503.
        seconds: age at which a file is removed.

    Example:
        >>> Middleware(Gate, max_bytes=2**20)  # doctest: +SKIP
    """

    def __init__(self, app, max_bytes, folder="", max_kept=2**30, seconds=600):
        self._app, self._most, self._file = app, max_bytes + _FRAME, max_bytes
        self._folder, self._max_kept, self._seconds = folder, max_kept, seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refused = self._refused(scope)
        if not refused:
            return await self._app(scope, self._counted(receive), send)
        if scope["type"] == "websocket":  # closed before it is accepted: the server answers 403
            return await send({"type": "websocket.close", "code": 1008})
        status, why = refused
        await PlainTextResponse(f"{why}\n", status)(scope, receive, send)

    def _refused(self, scope):
        """Status and line of a refusal, or None."""
        port = scope["server"][1]
        hosts = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())
        host, origin = (_all(scope, name) for name in (b"host", b"origin"))
        if len(host) != 1 or host[0] not in hosts:
            return 403, f"the page is at http://{_NAMES[0]}:{port} alone, under no other name"
        if origin not in ([], [f"http://{host[0]}"]):
            return 403, "the page takes no requests of other pages"
        if scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD"):
            return None
        length = _all(scope, b"content-length")
        if length and (not length[0].isdecimal() or int(length[0]) > self._most):
            return 413, self._too_much()
        if self._folder and kept(self._folder, self._seconds) > self._max_kept:
            return 503, f"uploads fill the disk; those of {self._seconds} s ago go, try again then"
        return None

    def _too_much(self):
        return f"more than the maximum allowed size of {self._file} bytes"

    def _counted(self, receive):
        """`receive`, which ends a request that turns out too long."""
        count = 0

        async def counting():
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self._most:
                raise HTTPException(413, self._too_much())
            return message

        return counting


def _all(scope, name):
    """Every value of a header."""
    return [value.decode("latin-1").strip().lower() for key, value in scope["headers"] if key == name]


def kept(folder, seconds):
    """Bytes of the files in a folder, after those are removed that were written `seconds` ago or before.

    Example:
        >>> kept("/nowhere", 600)
        0
    """
    total, oldest = 0, time.time() - seconds
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(FileNotFoundError):  # it has been taken meanwhile
                found = os.lstat(path)
                if found.st_mtime > oldest:
                    total += found.st_size
                else:
                    os.unlink(path)
    return total
