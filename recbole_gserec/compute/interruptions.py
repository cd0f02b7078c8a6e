"""How a command ends that is interrupted: by Ctrl-C, SIGTERM, or a terminal that is closed.

All of them raise KeyboardInterrupt, so that everything is cleaned up; then a line is printed, and the exit status is
128 and the signal's number: 130 after Ctrl-C, 143 after SIGTERM. Before that, while the package is still imported and
there is nothing to clean up, the process just ends. This module is imported before all others: it needs none of them.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from types import FrameType
from typing import Any, NoReturn

COMMANDS = ("gserec", "run_recbole")
PARENT = "RECBOLE_GSEREC_PARENT"
"""Environment variable by which a process of this package knows the one that has started it."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of an interruption that no signal tells of."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_NOT_BEGUN = "interrupted before it began"
_SECONDS_TO_CLEAN_UP = 10
_SECONDS_BETWEEN_LOOKS = 0.5

_Handler = Callable[[int, FrameType | None], None]


def heed_while_importing() -> None:
    """Let this process end without a traceback if it is a command, or a process of one; for the package's first line.

    A process that :func:`child_process.run_module` started ends with the one that started it, from now on.
    """
    # Not for processes that this one starts by other means.
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        end_with(int(parent))
    elif not _is_command():
        return
    _handle(_Leave("" if parent or _is_spawned() else _NOT_BEGUN))


@contextmanager
def heeded(remark: Callable[[], str] | None = None) -> Iterator[None]:
    """Let signals raise KeyboardInterrupt, and an interruption end this process.

    While it is cleaned up after the first signal, others are taken for the same one: a terminal, and ``timeout``, send
    more than one. Only after some seconds does another end the process at once.

    Args:
        remark: What the line says after "interrupted; "; None for a process whose parent says it.

    Raises:
        SystemExit: If it was interrupted.
    """
    interrupt = _Interrupt()
    before = _handle(interrupt)
    over = "interrupted when its work was done"
    try:
        yield
    except KeyboardInterrupt:
        _leave_interrupted(interrupt, remark)
    except (Exception, SystemExit):
        # Cleaning up in haste may fail.
        if interrupt.number is None:
            raise
        _leave_interrupted(interrupt, remark)
    finally:
        if interrupt.number is not None or remark is None:
            over = ""
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        for number, handler in before.items():
            # From now on the interpreter ends, and there is nothing to be lost any more.
            signal.signal(number, _Leave(over) if isinstance(handler, _Leave) else handler)


@contextmanager
def while_importing() -> Iterator[None]:
    """Let an interruption end a command at once while it imports what it works with.

    For what a command imports where it is called and not at its top, so that help, refusals and wrong uses are there
    without it. It has begun nothing then, and a library that is interrupted in its midst may hide that it was.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: handler for number, handler in before.items() if isinstance(handler, _Interrupt)}
    for number in before:
        signal.signal(number, _Leave(_NOT_BEGUN))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_from_now_on() -> None:
    """Let signals raise KeyboardInterrupt in a process that a command has started."""
    if isinstance(signal.getsignal(signal.SIGINT), _Leave):
        _handle(_Interrupt())


def is_heeded(number: int) -> bool:
    """Whether a signal is one that a command ends by already."""
    return isinstance(signal.getsignal(number), (_Interrupt, _Leave))


@contextmanager
def kept() -> Iterator[None]:
    """Take back the signals of a command that a library takes for itself."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS if is_main and is_heeded(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int) -> None:
    """End this process within a second when its parent is gone, however that was ended.

    For a process that stores nothing by halves: it has no time to clean up.
    """

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


class _Leave:
    """Ends the process at once."""

    def __init__(self, line: str):
        self._line = line

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        _say(self._line)
        os._exit(128 + number)


class _Interrupt:
    """Raises KeyboardInterrupt, once.

    Attributes:
        number: Of the signal that came first; None before.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at, self._process = 0.0, os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A forked process ends as it would without this.
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.number is None:
            self.number, self._at = number, monotonic()
            raise KeyboardInterrupt
        if monotonic() - self._at > _SECONDS_TO_CLEAN_UP:
            _say("interrupted again: ended at once")
            os._exit(128 + self.number)


def _leave_interrupted(interrupt: _Interrupt, remark: Callable[[], str] | None) -> NoReturn:
    if remark is not None:
        _say(f"interrupted; {remark()}")
    raise SystemExit(INTERRUPTED if interrupt.number is None else 128 + interrupt.number) from None


def _handle(handler: _Handler) -> dict[int, Any]:
    """Take the signals that nobody else handles, and that are not ignored, as after ``nohup``; returns what was."""
    before: dict[int, Any] = {}
    # Elsewhere signals cannot be handled.
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            present = signal.getsignal(number)
            if present in (signal.SIG_DFL, signal.default_int_handler) or isinstance(present, _Leave):
                before[number] = present
                signal.signal(number, handler)
    return before


def _is_command() -> bool:
    """Whether this process is a command of this package; a module that is run is imported before it has a name."""
    arguments = sys.orig_argv
    if "-m" in arguments[:-1] and arguments[arguments.index("-m") + 1].startswith("recbole_gserec."):
        return True
    name = os.path.basename((getattr(sys, "argv", None) or [""])[0])
    return name.removesuffix(".exe").removesuffix("-script.py") in COMMANDS


def _is_spawned() -> bool:
    # A spawned process has imported it; for all others it takes time.
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _say(line: str) -> None:
    if line:
        with suppress(OSError):
            # A terminal shows ^C, or a bar, on the line.
            start = "\n" if os.isatty(2) else ""
            # Not by way of Python's streams, in whose midst the signal may have come.
            os.write(2, f"{start}{line}\n".encode())
