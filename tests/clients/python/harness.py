"""What the Python suites share: names, conditions with deadlines, and one `ok` or `FAIL` line a check.

Checks run side by side, for most of their time is waiting for rebalances. Each takes its topics and groups from `fresh`, so a broker
can serve any number of runs.
"""

import faulthandler
import os
import sys
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor

BOOTSTRAP = os.environ["BOOTSTRAP"]
FULL = os.environ.get("LEVEL", "full") != "smoke"
RUN = uuid.uuid4().hex[:8]
LIMIT_S = 120.0
CHECKS = []


def fresh(kind: str) -> str:
    """A name for a topic or group that no other check and no other run uses."""
    return f"py-{RUN}-{kind}-{uuid.uuid4().hex[:6]}"


def check(function):
    """Register a check; its name is the function's."""
    CHECKS.append(function)
    return function


def equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}"[:600])


def wait(condition, what: str, limit_s: float = LIMIT_S):
    """Poll a condition until it is true; its value is returned."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)


def run(suite: str):
    """Run all checks and exit; `ONLY=name` picks one."""
    # The caller's patience ends at 200 s. A library that waits with Python's lock held stops every thread but this one.
    faulthandler.dump_traceback_later(190, exit=True)
    only = os.environ.get("ONLY")
    chosen = [c for c in CHECKS if not only or c.__name__ == only]

    def one(function):
        began = time.monotonic()
        try:
            function()
        except BaseException as error:  # a panicking client library must not end the other checks
            where = traceback.extract_tb(error.__traceback__)[-1]
            line = " ".join(str(error).split())[:500]
            print(f"FAIL {suite} {function.__name__}: {type(error).__name__} {line} ({os.path.basename(where.filename)}:{where.lineno})\n", end="", flush=True)
            return False
        print(f"ok {suite} {function.__name__} {time.monotonic() - began:.1f}s\n", end="", flush=True)
        return True

    with ThreadPoolExecutor(max_workers=6) as pool:
        good = all(list(pool.map(one, chosen)))
    sys.stdout.flush()
    os._exit(0 if good else 1)  # clients that hang in their destructors must not hang the suite
