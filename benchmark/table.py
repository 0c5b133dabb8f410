"""The table of the comparison: a line for each operation, the service beside the bare app."""

import statistics

from benchmark.load import FEW, MANY, OPERATIONS, Case, Turn

type Turns = dict[tuple[Case, str], list[Turn]]
type PerOperation = dict[str, dict[str, float]]

HEADINGS = (
    ("", ""),
    ("throughput of bare", f"{FEW} clients  {MANY} clients"),
    ("k instructions", "service  bare  bare/service"),
    ("CPU, us", "service  bare"),
    ("p50, ms", "service  bare"),
    ("p99, ms", "service  bare"),
    ("round trips", "service  bare"),
    ("p50 growth", "100 to 20,000"),
)


def make(turns: Turns, trips: PerOperation, counts: PerOperation | None) -> str:
    """The lines of the table; `counts` are the thousands of instructions, if they were counted."""
    lines = [[upper for upper, _ in HEADINGS], [lower for _, lower in HEADINGS]]
    lines += [_line(operation, turns, trips, counts) for operation in OPERATIONS]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("   ".join(cells).rstrip() for cells in padded)


def _line(operation: str, turns: Turns, trips: PerOperation, counts: PerOperation | None) -> list[str]:
    ours, bare = (turns[Case(operation, "small", FEW), app] for app in ("service", "bare"))
    many_ours, many_bare = (turns[Case(operation, "small", MANY), app] for app in ("service", "bare"))
    grown = turns[Case(operation, "large", FEW), "service"]
    instructions = "not counted"
    if counts is not None:
        spent, least = counts["service"][operation], counts["bare"][operation]
        instructions = f"{spent:7.0f} {least:5.0f} {least / spent:13.2f}"
    return [
        operation,
        f"{_speed(ours) / _speed(bare):9.2f} {_speed(many_ours) / _speed(many_bare):11.2f}",
        instructions,
        f"{_cpu(ours):7.0f} {_cpu(bare):5.0f}",
        f"{_quantile(ours, 50):7.2f} {_quantile(bare, 50):5.2f}",
        f"{_quantile(ours, 99):7.2f} {_quantile(bare, 99):5.2f}",
        f"{trips['service'][operation]:7.1f} {trips['bare'][operation]:5.1f}",
        f"{_quantile(grown, 50) / _quantile(ours, 50):13.2f}",
    ]


def _speed(turns: list[Turn]) -> float:
    return statistics.median(len(turn.latencies) / turn.elapsed for turn in turns)


def _cpu(turns: list[Turn]) -> float:
    """Microseconds of the app's CPU for a request."""
    return statistics.median(turn.cpu / len(turn.latencies) for turn in turns) * 1e6


def _quantile(turns: list[Turn], percent: int) -> float:
    """The milliseconds within which this percentage of the requests was answered."""
    latencies = sorted(latency for turn in turns for latency in turn.latencies)
    return latencies[len(latencies) * percent // 100] * 1000
