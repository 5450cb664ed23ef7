"""Joins a Ray cluster or starts one here, and leaves it as it was found."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from equipoise.errors import EquipoiseError, MissingDependencyError

_ANSWER_WITHIN_S = 10.0


def import_ray() -> Any:
    """Return the module `ray`.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError(
            "running on several machines needs ray", fix="pip install 'equipoise[ray]'"
        ) from error
    return ray


def join(ray: Any, address: str | None, cpus: int) -> Callable[[], None]:
    """Connect to a cluster, or start one on this machine, and return what leaves it again.

    Parameters
    ----------
    address
        As in `RayCluster`.
    cpus
        Of a Ray that is started here; 0 is all that this process may use.

    Raises
    ------
    EquipoiseError
        The cluster cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    here: dict[str, Any] = {}
    if address == "local":
        here = {"num_cpus": cpus or len(os.sched_getaffinity(0)), "include_dashboard": False}
        _own_token()
    leave = partial(_leave, ray, signal.getsignal(signal.SIGTERM))
    _talk(ray, False)
    try:
        _require_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except Exception as error:  # Ray raises a bare Exception in some of its ways to fail
        leave()
        _refuse_address(ray, address, error)
    return leave


def _own_token() -> None:
    """Give a Ray of our own a password that lives in this process, where nobody has set another.

    Ray would write one into the home folder for good.
    """
    known = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(name in os.environ for name in known) and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _leave(ray: Any, before: Any) -> None:
    """Disconnect, stop what we started, and give back the SIGTERM handler that Ray took."""
    ray.shutdown()
    _talk(ray, True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _talk(ray: Any, aloud: bool) -> None:
    """Let Ray print what its machines tell about lost workers, or not.

    It goes to the standard output, where ``--json`` has its place, and ``log_to_driver`` does not turn it off; this is
    the switch that Ray's own debugger uses. What a user must know is in our error; the rest is in Ray's log files.
    """
    ray._private.worker._worker_logs_enabled = aloud


def _require_answer(address: str) -> None:
    """Raise `OSError` where nothing listens at ``HOST:PORT``: Ray would try for minutes, and say so line by line."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_WITHIN_S).close()


def _refuse_address(ray: Any, address: str, error: Exception) -> NoReturn:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if address == "local":
        raise EquipoiseError(
            f"Ray could not be started on this machine: {said}", fix="use `--on processes`, which needs no Ray"
        ) from error
    if isinstance(error, getattr(ray.exceptions, "AuthenticationError", ())):
        raise EquipoiseError(
            f"the Ray cluster at {address} wants its token: {said}",
            fix="export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN with the token that the head was started with",
        ) from error
    if type(error) is ConnectionError:  # something listens there, or `_require_answer` had raised one of its subclasses
        raise EquipoiseError(
            f"what answers at {address} does not let us in: {said}",
            fix="export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN with the token that the head was started with; if they "
            "are right, look at `ray status` on the head",
        ) from error
    raise EquipoiseError(
        f"no Ray cluster can be joined at {address}: {said}",
        fix="start its head with `ray start --head --port=6379`, join this machine with "
        "`ray start --address=HOST:6379`, then export RAY_ADDRESS=HOST:6379; without RAY_ADDRESS Ray runs on this "
        "machine only",
    ) from error
