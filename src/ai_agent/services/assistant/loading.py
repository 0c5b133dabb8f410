"""Finding the operator's agent when the service starts; each mistake becomes one sentence."""

import importlib
import sys
import traceback
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ai_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from ai_agent.services.assistant.agent import Assistant

EXTRA = "ASSISTANT needs the OpenAI Agents SDK: install the extra, as in 'uv sync --extra assistant'"


def load(reference: str) -> "Assistant":
    """The agent that `module:attribute` names, in the working directory or on the Python path.

    Raises ConfigurationError, in one sentence, if there is none.
    """
    try:
        # These are imported only if an agent is named, and before its folder is on the path, because a module there may
        # have the SDK's name.
        from agents import Agent  # noqa: PLC0415

        from ai_agent.services.assistant.agent import Assistant  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(_hidden_by(error) or EXTRA) from error
    module, _, attribute = reference.strip().partition(":")
    if not module or module.startswith(".") or not attribute:
        raise ConfigurationError("ASSISTANT must name an agent as module:attribute, such as my_agent:agent")
    loaded = _import(module)
    try:
        found = attrgetter(attribute)(loaded)
    except AttributeError:
        raise ConfigurationError(f"ASSISTANT: the module {module} has no attribute {attribute}") from None
    except (Exception, SystemExit) as error:  # The operator's code may compute the attribute.
        raise ConfigurationError(f"ASSISTANT: reading {reference} raises {_describe(error, module)}") from error
    if not isinstance(found, Agent):
        raise ConfigurationError(f"ASSISTANT: {reference} is of the type {type(found).__name__}, not an agents.Agent")
    return Assistant(found)


def _hidden_by(error: ImportError) -> str | None:
    """The sentence for a module in the working directory, which servers put on the path, with the SDK's name."""
    found = Path(error.path or "")
    if error.name is None or found.parent not in {Path.cwd(), Path.cwd() / error.name}:
        return None
    name = found.parent.name if found.stem == "__init__" else found.name
    return f"ASSISTANT: {name} in the working directory hides the OpenAI Agents SDK; rename {name}"


def _import(module: str) -> ModuleType:
    folder = str(Path.cwd())
    if not {"", folder} & set(sys.path):
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            if module.endswith(".py"):
                hint = f"leave off .py, as in {module.removesuffix('.py')}:agent"
                raise ConfigurationError(f"ASSISTANT names a module, not a file: {hint}") from None
            where = "in the working directory or on the Python path"
            raise ConfigurationError(f"ASSISTANT: there is no module {module} {where}") from None
        raise ConfigurationError(f"ASSISTANT: {module} imports {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # The module may raise anything, with a secret in the text.
        raise ConfigurationError(f"ASSISTANT: importing {module} raises {_describe(error, module)}") from error


def _describe(error: BaseException, module: str) -> str:
    """The error's type and the line of the operator's package that led to it; a library's own line would not help."""
    if isinstance(error, SyntaxError):
        place, line = error.filename or "", error.lineno
    else:
        frames = list(traceback.walk_tb(error.__traceback__))
        own = [
            (frame, line) for frame, line in frames if _package(frame.f_globals.get("__name__", "")) == _package(module)
        ]
        frame, line = (own or frames)[-1]
        place = frame.f_code.co_filename
    return f"{type(error).__name__} in {Path(place).name}, line {line}"


def _package(module: str) -> str:
    return module.partition(".")[0]
