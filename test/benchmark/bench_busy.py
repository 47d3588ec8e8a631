"""The estimator's node on a computer that does other things: start to ready, image to pose quiet and beside busy loops.

Run as ``PYTHONPATH=test python test/benchmark/bench_busy.py [--seconds 30] [--rounds 3] [--loops 2] [--rate 10]``, on a
machine that is quiet otherwise: it prints how many cores others took. Images of the simulated camera are rendered
beforehand and played to the node, which has its default settings; the busy loops are processes of equal priority.
Rounds alternate. Writes ``out/bench/busy.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource as system
import subprocess
import sys
import time
from typing import Any

import numpy as np
import rclpy
from bench_fine_tuning_latency import OUT, SETTLE_S, Bench, running

from pnp_ros.io.resources import resource
from pnp_ros.nodes.ros_compat import use_image_profile
from synthetic.busy_machine import busy

_LIMIT = 3.0  # times the quiet p99
_QUIET = (10.0, 20.0)  # ms: aims for p50 and p99


def start(backend: str) -> dict[str, float]:
    """Seconds by the clock and of CPU time from starting the node to its word that it is ready, imports included."""
    command = [sys.executable, "-m", "pnp_ros.cli.entry", "pnp_ros.nodes.pose_estimator_node", "--ros-args"]
    command += ["-p", f"object:={resource('config/objects/demo')}", "-p", f"backend:={backend}"]
    used = system.getrusage(system.RUSAGE_CHILDREN)
    begin = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith("ready"):
            break
    seconds = time.monotonic() - begin
    process.kill()
    process.stderr.read()
    process.wait()
    after = system.getrusage(system.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(spent, 2)}


def _percentiles(rows: list[dict[str, Any]], state: str, key: str) -> list[float]:
    values = [value for row in rows if row["state"] == state for value in row[key]]
    return [round(float(v), 1) for v in np.percentile(values, [50, 99])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=2, help="busy loops beside")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second")
    arguments = parser.parse_args()
    os.environ |= {"ROS_DOMAIN_ID": str(os.getpid() % 100 + 1), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    use_image_profile()
    starts = {backend: [start(backend) for _ in range(3)] for backend in ("auto", "torch")}
    for backend, each in starts.items():
        print(f"start to ready, backend {backend}: " + ", ".join(f"{s['seconds']} s" for s in each), end="")
        print(f"; CPU time {min(s['cpu_seconds'] for s in each)} s")
    rclpy.init()
    bench, rows = Bench(arguments.rate), []
    with running("pose_estimator", object=resource("config/objects/demo")) as estimator:
        bench.wait(lambda: bench.across, "the estimator")
        for _ in range(arguments.rounds):
            for state, loops in (("quiet", 0), ("busy", arguments.loops)):
                with busy(loops):
                    time.sleep(SETTLE_S)
                    rows.append({"state": state, **bench.measure(arguments.seconds, [estimator])})
        bench.stop()
    rclpy.try_shutdown()
    figures: dict[str, Any] = {"start": starts, "cores": os.cpu_count(), "loops": arguments.loops}
    for state in ("quiet", "busy"):
        those = [row for row in rows if row["state"] == state]
        sent, came = (sum(row[key] for row in those) for key in ("images", "estimated"))
        others = max(row["other_cores"] for row in those) - (arguments.loops if state == "busy" else 0)
        inside, across = _percentiles(rows, state, "inside_ms"), _percentiles(rows, state, "across_ms")
        figures[state] = {"inside_ms": inside, "across_ms": across, "images": sent, "estimated": came}
        print(f"{state:>5}: in the node p50 {inside[0]} p99 {inside[1]} ms, to pose p50 {across[0]} p99 {across[1]} ms")
        print(f"       {came} of {sent} images; others took up to {max(others, 0.0):.1f} cores")
    ratio = figures["busy"]["across_ms"][1] / figures["quiet"]["across_ms"][1]
    figures["p99_ratio"] = round(ratio, 2)
    print(f"p99 busy / quiet {ratio:.2f} (aim {_LIMIT}); quiet aims {_QUIET[0]} and {_QUIET[1]} ms")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "busy.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
