"""Keeps the workers alive, and the metrics free of those that are not."""

from pathlib import Path
from socket import socket

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config
from uvicorn.supervisors import Multiprocess


class Supervisor(Multiprocess):
    """uvicorn's, which also forgets what a lost worker was busy with.

    Args:
        folder: where the workers share their metrics.
    """

    def __init__(self, config: Config, sockets: list[socket], folder: Path) -> None:
        super().__init__(config, sockets)
        self._folder = str(folder)
        self._seen: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Replaces workers that have died or hang."""
        super().keep_subprocess_alive()
        alive = {process.pid for process in self.processes if process.pid is not None}
        for lost in self._seen - alive:
            mark_process_dead(lost, self._folder)  # type: ignore[no-untyped-call]
        self._seen = alive
