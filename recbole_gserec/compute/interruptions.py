"""How a command ends when it is interrupted by Ctrl-C, SIGTERM or a closed terminal.

Each of these raises KeyboardInterrupt, so that everything is cleaned up. Then a line is printed, and the exit status is
128 plus the signal's number: 130 after Ctrl-C, 143 after SIGTERM. While the package is still being imported, there is
nothing to clean up, and the process just ends. This module is imported before all others and needs none of them.
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
"""Environment variable that tells a process of this package the id of the process that started it."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of an interruption without a signal."""

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_NOT_BEGUN = "interrupted before it began"
_SECONDS_TO_CLEAN_UP = 10
_SECONDS_BETWEEN_LOOKS = 0.5

_Handler = Callable[[int, FrameType | None], None]


def heed_while_importing() -> None:
    """Let this process end without a traceback if it is a command or a child of one. The package calls this first.

    From now on, a process started by :func:`processes.run_module` also ends when its parent ends.
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
    """Let signals raise KeyboardInterrupt, and let an interruption end this process.

    Further signals during the clean-up are ignored, because a terminal and ``timeout`` send more than one. After some
    seconds, another signal ends the process at once.

    Args:
        remark: Text of the line after "interrupted; "; None for a process whose parent prints the line.

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
            # The interpreter is about to end, and nothing can be lost any more.
            signal.signal(number, _Leave(over) if isinstance(handler, _Leave) else handler)


@contextmanager
def while_importing() -> Iterator[None]:
    """Let an interruption end a command at once while it imports its libraries.

    Commands import them when they are called and not at the top of the module, so that help and error messages appear
    without them. At that moment the command has not started any work. An interrupted library may hide the interruption.
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
    """Return whether a handler of this module already handles a signal."""
    return isinstance(signal.getsignal(number), (_Interrupt, _Leave))


@contextmanager
def kept() -> Iterator[None]:
    """Restore a command's signal handlers if a library replaces them."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS if is_main and is_heeded(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int) -> None:
    """End this process within a second after its parent has ended in any way.

    There is no time to clean up, so the process must store everything atomically.
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
        number: Number of the first signal; None before.
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
    """Handle signals that have no other handler and are not ignored (as by ``nohup``); return the former handlers."""
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
    """Return whether this process is a command of this package, also while a module run by ``-m`` has no name yet."""
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
            # Without Python's streams, because the signal may have interrupted one of them.
            os.write(2, f"{start}{line}\n".encode())
