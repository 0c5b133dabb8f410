"""Keeps in the turn what a handoff's filter hides from the next agent, because the stream has shown it."""

from dataclasses import replace
from typing import Any

from agents import RunItem
from agents.run_internal import turn_resolution
from agents.run_internal.run_steps import SingleStepResult

_execute = turn_resolution.execute_handoffs


def keep_whole_turns() -> None:
    """Replace the SDK's own function, because the filters belong to the operator's agents."""
    turn_resolution.execute_handoffs = _execute_and_keep


async def _execute_and_keep(*, new_step_items: list[RunItem], **options: Any) -> SingleStepResult:
    step = await _execute(new_step_items=new_step_items, **options)
    # The SDK has added the handoff's output to this list. The next agent is still given only what the filter leaves.
    return replace(step, session_step_items=new_step_items)
