"""Starts the service, in this process or in several workers."""

import difflib
import logging
import os
import re
import socket
import sys
from collections.abc import Mapping

from pydantic import ValidationError
from uvicorn.config import STARTUP_FAILURE

from service.api.app import create_app
from service.observability import tracing
from service.observability.logs import configure_logging
from service.observability.tracing import TracesError
from service.ocr.exceptions import ModelError
from service.query_params import InvalidParameterError
from service.runtime.predictor import load_predictor
from service.server.malloc import return_freed_memory
from service.server.supervisor import Supervisor
from service.server.worker import make_server, serve
from service.settings import Settings, is_service_link

_SERVICE_LINKS = re.compile("OCR_(SERVICE_(HOST|PORT.*)|PORT_[0-9]+_(TCP|UDP|SCTP).*)")
"""Variables that Kubernetes sets for a Service named `ocr`, in addition to `OCR_PORT`."""

_ACCEPTED_AT_ONCE, _ACCEPTED_SHARE = 16, 1 / 16
"""Most connections that are accepted in one iteration of the event loop, as a number and as a share
of the connections that may be open. uvloop accepts one per socket and iteration, so that the
hundredth that waits would take a hundred iterations. If many more were accepted at once, some would
be closed to make room before their requests are read. Each copy of a socket costs a new connection
some 5 µs. Several workers have no copies: one of them would accept the connections of all."""

_SECRETS = [f"OCR_{name.upper()}" for name, one in Settings.model_fields.items() if not one.repr]
"""Settings whose values are never shown."""

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

logger = logging.getLogger(__name__)


def main() -> int:
    """Serves until a signal ends it.

    Returns:
        The exit status; not 0 if the service could not start. After a graceful shutdown a single
        worker does not return from here, but exits with 0.
    """
    open_standard_streams()
    try:
        # Checks everything before a worker starts, so that an error is reported once, in a
        # sentence.
        settings = Settings()
        configure_logging(settings)
        if tracing.asked_for(os.environ):
            tracing.Traces().close()
        _warn_of_settings(os.environ)
        return_freed_memory()
        predictor = load_predictor(settings)
        sockets = listen(settings.host, settings.port)
    except ValidationError as error:
        for problem in error.errors():
            name = f"OCR_{'_'.join(map(str, problem['loc'])).upper()}"
            message = problem["msg"].removeprefix("Value error, ")
            value = f" is {problem['input']!r}" if name not in _SECRETS else ""
            print(f"error: {name}{value}: {message}", file=sys.stderr)
        return 1
    except (ModelError, TracesError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except InvalidParameterError as error:
        names, _, message = str(error).partition(": ")
        variables = " and ".join(f"OCR_{name.upper()}" for name in names.split(" and "))
        print(f"error: {variables}: {message}", file=sys.stderr)
        return 1

    def on_started() -> None:
        for one in sockets:
            host, port = socket.getnameinfo(one.getsockname(), _NUMERIC)  # with the zone
            host = f"[{host}]" if ":" in host else host
            logger.info("the service is running on http://%s:%s (Ctrl-C ends it)", host, port)

    if settings.workers > 1:
        del predictor  # each worker loads its own
        return Supervisor(settings, sockets, on_started).run()
    app = create_app(settings, predictor)
    server = make_server(settings, app, on_started)
    serve(server, accepting(sockets, settings.max_connections))
    return 0 if server.started else STARTUP_FAILURE


def open_standard_streams() -> None:
    """Opens the null device in place of standard streams that are closed.

    Otherwise the next file or connection would get such a descriptor, and receive what libraries
    write to it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor
            os.set_inheritable(null, True)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to all addresses of a host; `::` takes IPv4, too.

    Args:
        port: 0 for any free port, the same for all addresses.

    Raises:
        OSError: the address cannot be used; the message names it and the reason.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, (address, _, *scope) in dict.fromkeys((one[0], one[4]) for one in found):
            if sockets and not port:
                port = sockets[0].getsockname()[1]
            both = address == "::" and socket.has_dualstack_ipv6()
            one = socket.create_server((address, port, *scope), family=family, dualstack_ipv6=both)
            # Limits how much the system buffers for clients that do not take their answers, and
            # shows early how much other clients take.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            sockets.append(one)
    except socket.gaierror as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(
            f"OCR_HOST={host} is neither an address nor a known host name: {reason}"
        ) from error
    except OSError as error:
        for one in sockets:
            one.close()
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"OCR_HOST={host}, OCR_PORT={port}: {reason}") from error
    return sockets


def accepting(sockets: list[socket.socket], max_connections: int) -> list[socket.socket]:
    """The sockets and copies of them, all of which accept the same connections."""
    copies = min(_ACCEPTED_AT_ONCE, int(_ACCEPTED_SHARE * max_connections)) - 1
    return [*sockets, *(one.dup() for one in sockets for _ in range(copies))]


def _warn_of_settings(environment: Mapping[str, str]) -> None:
    """Warns of unknown OCR_ variables. No error: a template may be for another version."""
    if is_service_link(environment.get("OCR_PORT")):
        logger.warning(
            "OCR_PORT=%s is ignored: Kubernetes sets it for a Service named ocr; "
            "set enableServiceLinks: false in the pod to avoid this",
            environment["OCR_PORT"],
        )
    known = [f"OCR_{name.upper()}" for name in Settings.model_fields]
    for name in sorted(name for name in environment if name.upper().startswith("OCR_")):
        if name.upper() not in known and not _SERVICE_LINKS.fullmatch(name):
            nearest = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            logger.warning("%s is not a setting and has no effect%s", name, hint)
