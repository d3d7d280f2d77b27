"""Reading files from storage that fails now and then."""

import os
import queue
import threading
import time
from typing import Any, Optional, Union

import mmengine.fileio as fileio

#: Seconds before the second, third, ... try.
PAUSES = (1.0, 5.0)


class Reader:
    """Reads files in a thread, so that one that hangs can be given up.

    A read of a network file system that stalls cannot be interrupted. Its
    thread is left behind, and the file is read again in another one.

    Args:
        timeout (float): Seconds that a read may take.
        backend_args (dict, optional): Of MMEngine's file backend. Defaults to
            None.
    """

    def __init__(
        self, timeout: float, backend_args: Optional[dict] = None
    ) -> None:
        self.timeout = timeout
        self.backend_args = backend_args
        self.process: Optional[int] = None  # whose thread it is

    def __getstate__(self) -> dict:
        return dict(timeout=self.timeout, backend_args=self.backend_args)

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def _start(self) -> None:
        self.process = os.getpid()
        self.tasks, self.results = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(
            target=self._work, args=(self.tasks, self.results), daemon=True
        ).start()

    def _work(
        self, tasks: queue.SimpleQueue, results: queue.SimpleQueue
    ) -> None:
        while True:
            path = tasks.get()
            try:
                results.put(fileio.get(path, self.backend_args))
            except Exception as error:
                results.put(error)

    def _read_once(self, path: str) -> Union[bytes, Exception]:
        if self.process != os.getpid():  # none yet, or lost in a fork
            self._start()
        self.tasks.put(path)
        try:
            return self.results.get(timeout=self.timeout)
        except queue.Empty:
            self.process = None  # that thread may never come back
            return TimeoutError(
                f'{path}: no answer of the file system in {self.timeout:g} s'
            )

    def __call__(self, path: str) -> bytes:
        """Read a file; try again if the storage fails.

        Args:
            path (str): The file.

        Returns:
            bytes: Its content.

        Raises:
            OSError: What the last try raised; at once if there is no such
                file.
        """
        for pause in (*PAUSES, None):
            result: Any = self._read_once(path)
            if not isinstance(result, Exception):
                return result
            if pause is None or not isinstance(result, OSError):
                raise result
            if isinstance(result, (FileNotFoundError, IsADirectoryError)):
                raise result
            time.sleep(pause)
        raise AssertionError  # the last of the pauses is None
