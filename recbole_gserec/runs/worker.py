"""Makes one run in its own process: ``python -m recbole_gserec.runs.worker SPEC``.

This process locks the run's folder while it lives. Two benchmarks on one folder never make the same run at once, and a
killed process leaves no lock. The process ends with the process that started it:
:func:`recbole_gserec.compute.processes.run_module`.
"""

import os
import shutil
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_gserec.compute import heeded, write_to_log
from recbole_gserec.errors import failure_reason
from recbole_gserec.runs.record import failed_record
from recbole_gserec.runs.run_store import (
    BUSY,
    CHECKPOINT_FILE,
    FINISHED,
    INTERRUPTED,
    LOCK_FILE,
    LOG_FILE,
    SPEC_FILE,
    STATE_FILE,
    Spec,
    read_status,
    write_run,
)


def main() -> None:
    """Run the process."""
    with heeded():
        raise SystemExit(make_run(Path(sys.argv[1]).resolve()))


def make_run(spec_file: Path) -> int:
    """Make a run unless it is finished; return the exit status of the process."""
    folder = spec_file.parent
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            if read_status(folder) != FINISHED:
                spec = Spec.read(spec_file)
                clean(folder)
                write_to_log(folder / LOG_FILE)
                # RecBole writes to the current folder: TensorBoard's files and a second log.
                os.chdir(folder)
                record = train_or_fail(spec)
                shutil.rmtree(folder / "log", ignore_errors=True)
                write_run(folder, record)
                if record["status"] == FINISHED:
                    (folder / STATE_FILE).unlink(missing_ok=True)
    except Timeout:
        return BUSY
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def train_or_fail(spec: Spec) -> dict:
    """Return the record of a run, whether it succeeds or fails."""
    started = datetime.now(UTC)
    try:
        # Imported here, so that an import error becomes a failure of the run.
        from recbole_gserec.runs.train import train

        return train(spec)
    except Exception as error:
        traceback.print_exc()
        return failed_record(spec.run, started, failure_reason(error), traceback.format_exc())


def clean(folder: Path) -> None:
    """Remove what an earlier attempt left, except the state of its training.

    Files that another process is writing, such as the run's spec, are kept.
    """
    kept = {SPEC_FILE, LOCK_FILE}
    if (folder / STATE_FILE).is_file():
        kept |= {STATE_FILE, CHECKPOINT_FILE, LOG_FILE}
    for path in folder.iterdir():
        if path.name in kept or path.name.startswith(f".{Path(SPEC_FILE).stem}-"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


if __name__ == "__main__":
    main()
