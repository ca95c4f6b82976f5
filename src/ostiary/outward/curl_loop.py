"""libcurl's multi interface on an asyncio loop: many requests over few connections, no thread."""

import asyncio
from collections.abc import Callable
from typing import Final

import pycurl

_NEVER: Final = -1


class CurlLoop:
    """One libcurl pool of connections, driven by the event loop in which it was made.

    libcurl says which sockets it waits for and when it wants to be called; the loop does both. A pool
    is shared by requests that show the same client certificate, and by no others.
    """

    def __init__(self, *, connections: int, streams: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[pycurl.Curl, asyncio.Future[tuple[int, str]]] = {}
        self._watched: set[int] = set()
        self._closing = False
        self._closed = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, streams)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    async def perform(self, request: pycurl.Curl) -> tuple[int, str]:
        """Run one prepared request to its end: libcurl's error number, 0 for none, and its own words for it."""
        done: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._waiting[request] = done
        try:
            self._multi.add_handle(request)
        except pycurl.error:
            del self._waiting[request]
            return pycurl.E_FAILED_INIT, ""
        try:
            return await done
        finally:
            if self._waiting.pop(request, None) is not None:  # cancelled before its end
                self._multi.remove_handle(request)
            if self._closing and not self._waiting:
                self._loop.call_soon(self._close)

    def close_when_idle(self) -> None:
        """Let what is under way finish, then close every connection."""
        self._closing = True
        if not self._waiting:
            self._close()

    def _watch(self, action: int, socket: int, _multi: object, _data: object) -> None:
        """Follow which events libcurl waits for on a socket."""
        if socket in self._watched:
            self._loop.remove_reader(socket)
            self._loop.remove_writer(socket)
            self._watched.discard(socket)
        if action & pycurl.POLL_IN and action != pycurl.POLL_REMOVE:
            self._loop.add_reader(socket, self._on_socket, socket, pycurl.CSELECT_IN)
            self._watched.add(socket)
        if action & pycurl.POLL_OUT and action != pycurl.POLL_REMOVE:
            self._loop.add_writer(socket, self._on_socket, socket, pycurl.CSELECT_OUT)
            self._watched.add(socket)

    def _set_timer(self, milliseconds: int) -> None:
        """Follow when libcurl wants to be called: after so long, at once, or not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds != _NEVER and not self._closed:
            self._timer = self._loop.call_later(milliseconds / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn(lambda: self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0))

    def _on_socket(self, socket: int, event: int) -> None:
        self._turn(lambda: self._multi.socket_action(socket, event))

    def _turn(self, act: Callable[[], object]) -> None:
        if self._closed:
            return
        try:
            act()
            self._collect()
        except pycurl.error:
            # The pool itself is broken, not a request: whoever waits for it must not wait for ever.
            for request in list(self._waiting):
                self._finish(request, pycurl.E_FAILED_INIT, "")

    def _collect(self) -> None:
        more = 1
        while more:
            more, succeeded, failed = self._multi.info_read()
            for request in succeeded:
                self._finish(request, 0, "")
            for request, number, words in failed:
                self._finish(request, number, words)

    def _finish(self, request: pycurl.Curl, number: int, words: str) -> None:
        self._multi.remove_handle(request)
        done = self._waiting.pop(request, None)
        if done is not None and not done.done():
            done.set_result((number, words))

    def _close(self) -> None:
        if self._waiting or self._closed:
            return
        self._closed = True
        self._set_timer(_NEVER)
        self._multi.close()
        for socket in self._watched:
            self._loop.remove_reader(socket)
            self._loop.remove_writer(socket)
        self._watched.clear()
