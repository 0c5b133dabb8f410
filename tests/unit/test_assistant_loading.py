"""Naming the agent: each mistake is one sentence at start, which repeats nothing that the module holds."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_agent.errors import ConfigurationError
from ai_agent.services.assistant.agent import Assistant
from ai_agent.services.assistant.loading import load

MODULES = {
    "whole_agent": "from agents import Agent\nagent = Agent(name='Assistant')\nanswer = 42\n",
    "broken_agent": "key = 'secret-word'\nraise RuntimeError(key)\n",
    "keyless_agent": "import os\n\nkey = os.environ['A_VARIABLE_THAT_NOBODY_SETS']\n",
    "wrong_agent": "agent = (\n",
    "ending_agent": "import sys\nsys.exit('secret-word')\n",
    "computing_agent": "class Holder:\n    @property\n    def agent(self):\n        raise KeyError('secret-word')\n"
    "holder = Holder()\n",
    "hungry_agent": "import a_module_that_nobody_has\n",
}

MISTAKES = {
    "whole_agent": "ASSISTANT must name an agent as module:attribute, such as my_agent:agent",
    "whole_agent:": "ASSISTANT must name an agent as module:attribute, such as my_agent:agent",
    ".agents:agent": "ASSISTANT must name an agent as module:attribute, such as my_agent:agent",
    ":agent": "ASSISTANT must name an agent as module:attribute, such as my_agent:agent",
    "no_agent:agent": "ASSISTANT: there is no module no_agent in the working directory or on the Python path",
    "no_package.agent:agent": "ASSISTANT: there is no module no_package.agent in the working directory or on the"
    " Python path",
    "whole_agent:assistant": "ASSISTANT: the module whole_agent has no attribute assistant",
    "whole_agent:answer": "ASSISTANT: whole_agent:answer is of the type int, not an agents.Agent",
    "broken_agent:agent": "ASSISTANT: importing broken_agent raises RuntimeError in broken_agent.py, line 2",
    "keyless_agent:agent": "ASSISTANT: importing keyless_agent raises KeyError in keyless_agent.py, line 3",
    "wrong_agent:agent": "ASSISTANT: importing wrong_agent raises SyntaxError in wrong_agent.py, line 1",
    "ending_agent:agent": "ASSISTANT: importing ending_agent raises SystemExit in ending_agent.py, line 2",
    "computing_agent:holder.agent": "ASSISTANT: reading computing_agent:holder.agent raises KeyError in"
    " computing_agent.py, line 4",
    "whole_agent.py:agent": "ASSISTANT names a module, not a file: leave off .py, as in whole_agent:agent",
    "no_agent.py:agent": "ASSISTANT names a module, not a file: leave off .py, as in no_agent:agent",
    "hungry_agent:agent": "ASSISTANT: hungry_agent imports a_module_that_nobody_has, which is not installed",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_an_agent_is_found_in_the_working_directory() -> None:
    assert isinstance(load("whole_agent:agent"), Assistant)


def test_a_space_around_the_name_is_left_off() -> None:
    assert isinstance(load(" whole_agent:agent "), Assistant)


@pytest.mark.parametrize(("reference", "sentence"), MISTAKES.items(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(reference: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(reference)

    assert str(error.value) == sentence


def test_without_the_extra_the_sentence_says_how_to_install_it(folder: Path) -> None:
    (folder / "agents.py").write_text("raise ModuleNotFoundError(name='agents')")  # As if it were not installed.
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n" + (
        "from ai_agent.services.assistant.loading import load; load('whole_agent:agent')"
    )

    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert process.stderr.splitlines()[-1] == (
        "ai_agent.errors.ConfigurationError: ASSISTANT needs the OpenAI Agents SDK: install the extra,"
        " as in 'uv sync --extra assistant'"
    )


@pytest.mark.parametrize(("file", "name"), [("agents.py", "agents.py"), ("agents/__init__.py", "agents")])
def test_a_module_that_hides_the_sdk_is_named(file: str, name: str, folder: Path) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("from agents import Agent\nagent = Agent(name='Assistant')\n")
    environment = {"DATABASE_URL": "postgresql://ada@localhost/app", "ASSISTANT": "whole_agent:agent"}
    command = [sys.executable, "-m", "ai_agent.server"]

    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert (process.returncode, process.stderr) == (
        3,
        f"ai-agent cannot start: ASSISTANT: {name} in the working directory hides the OpenAI Agents SDK;"
        f" rename {name}\n",
    )


def test_without_an_agent_nothing_of_the_sdk_is_imported() -> None:
    program = "import sys\nfrom ai_agent.main import app\nprint(sorted({'agents', 'openai'} & sys.modules.keys()))"
    environment = {"DATABASE_URL": "postgresql://ada@localhost/app"}

    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )

    assert process.stdout == "[]\n"


def test_a_service_does_not_start_with_an_agent_that_is_none() -> None:
    environment = {"DATABASE_URL": "postgresql://ada@localhost/app", "ASSISTANT": "no_agent:agent"}
    command = [sys.executable, "-m", "uvicorn", "ai_agent.main:app"]

    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    sentence = MISTAKES["no_agent:agent"]
    assert (process.returncode, process.stderr) == (3, f"ai-agent cannot start: {sentence}\n")
