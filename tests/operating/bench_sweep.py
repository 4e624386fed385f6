"""
How long a sweep takes over 200 instances of the local AWS.

    python -m tests.operating.bench_sweep [COUNT]

The instances exist in the control plane only: a sweep opens no connection.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from infra import commands
from infra.local import shell, stack
from infra.local.local_aws import LocalAws
from infra.local.state import State, free_port
from tests.operating.fleet import Fleet, fleet

ROUNDS = 3


def measure(made: Fleet, what: str, *, full: bool = False) -> None:
    """Sweep some times and print the best and the median time, and what it decided."""
    seconds, body = [], {}
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        call = made.sweep(full=full)
        seconds.append(time.perf_counter() - begin)
        body = call.response["body"]
        assert not body["skipped"], body
    took = {"best_s": round(min(seconds), 2), "median_s": round(statistics.median(seconds), 2)}
    decided = {"requested": len(body["requested"]), "blocked": len(body["blocked"])}
    row = {"sweep": what, "instances": len(made.names)} | took | decided
    sys.stdout.write(f"{json.dumps(row)}\n")


def main(words: list[str]) -> int:
    """Start a local AWS of its own, and measure."""
    shell.forget()
    parser = commands.parser("tests.operating.bench_sweep", __doc__)
    parser.add_argument("count", nargs="?", type=int, default=200, help="how many instances")
    count = parser.parse_args(words).count
    if count < 1:
        parser.error(f"COUNT={count}: give the number of instances, 1 or more")
    aws = LocalAws(State.of_process("sweep"))
    aws.up(port=free_port())
    try:
        stack.deploy(aws)
        with fleet(aws, count) as made:
            made.declare("004")
            made.sweep()  # a cold start is not the question
            measure(made, "never seen: all are requested")
            made.observe(dict.fromkeys(made.names, "004"))
            measure(made, "all at their target: nothing to do")
            made.observe(dict.fromkeys(made.names[::20], "003"))
            measure(made, "one of twenty is behind")
            measure(made, "full: all are opened", full=True)
    finally:
        aws.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
