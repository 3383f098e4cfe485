"""README.md, docs/ and CONTRIBUTING.md: their commands and their code, in the order of the text.

- ```bash and ```python: run, all of them in one system, which begins as a machine on which
  nothing runs yet.
- ```sh: commands that need a GPU, a key or a network. Their programs, targets and options must
  exist.
- ```yaml: experiments and configurations. Their schema must accept them.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arena.experiment.load import load_experiment
from deploy.services import ROOT
from gateway.config import GatewayConfig
from router.config import RouterConfig
from services.hf.config import HfConfig
from services.litellm.config import LiteLlmConfig
from services.openrouter.config import OpenRouterConfig
from services.vllm.config import VllmConfig
from tests.support.docs import DOCUMENTS, Block, blocks, shell_lines
from tests.support.system import System, free_ports

#: These commands cannot run inside themselves. Their first step is `make setup`.
RUN_BY_CI = {"make lint", "make test"}
#: The last one writes files that other tests read.
NOT_RUN = RUN_BY_CI | {"make setup-all", "make test-fast", ".venv/bin/python -m tests.golden"}

#: In place of the experiment of `make demo`, which README.md runs: half a minute of games.
SHORT_EXPERIMENT = """
games: [kuhn_poker]
models: [hf_smollm2-135m-instruct]
opponents:
  random: {type: random}
reply: choices
send_seed: true
"""

CONFIGS = {
    "hf": HfConfig,
    "litellm": LiteLlmConfig,
    "openrouter": OpenRouterConfig,
    "vllm": VllmConfig,
}


def steps() -> list[tuple[Path, str, str]]:
    """Each command and each Python block that runs: document, language, text.

    A command that an earlier document has as well, with another folder for its results, runs
    once. `make down` is left out if the next `make up` would start the same system again.
    """
    steps = []
    for document in DOCUMENTS:
        own = [block for block in blocks("bash", "python") if block.document == document]
        # A system with other ports comes last: all other blocks share one system.
        for block in sorted(own, key=lambda block: "make up ARENA_" in block.text):
            lines = shell_lines(block) if block.language == "bash" else [block.text]
            steps += [(document, block.language, line) for line in lines if line not in NOT_RUN]
    kept = []
    seen: dict[str, Path] = {}
    started = ""
    for number, (document, language, text) in enumerate(steps):
        starts = [text for *_, text in steps[number:] if text.startswith("make up")]
        if text == "make down" and starts and starts[0] == started:
            continue
        started = text if text.startswith("make up") else started
        first = seen.setdefault(re.sub(r"\.run/\w+", "", text), document)
        if first == document or text.startswith("make "):
            kept.append((document, language, text))
    return kept


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system of somebody who follows the text. Nothing is up yet."""
    page = {"ARENA_ROUTER_METRICS_PORT": str(free_ports(1)[0])}  # for `arena-llm top`
    reader = System(tmp_path_factory.mktemp("reader") / "run", page)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def replaced(reader: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ports and paths of the text, and what they are in this test."""
    short = tmp_path_factory.mktemp("short") / "smoke.yaml"
    short.write_text(SHORT_EXPERIMENT)
    return {
        r"\b50050\b": str(reader.ports["router"]),
        r"\b50054\b": str(reader.ports["hf"]),
        r"\b6000\b": str(free_ports(1)[0]),
        r"\.run/": f"{reader.run_dir}/",
        # Tests never change the environment that they run in.
        r"^make ": "make -o .venv/.complete -o .venv/.all -o .venv-vllm/.complete ",
        r"configs/experiments/smoke.yaml": str(short),
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_and_every_python_block_runs(
    reader: System, replaced: dict[str, str], document: Path
) -> None:
    own = [(language, text) for path, language, text in steps() if path == document]
    if own and document.name != "README.md" and not reader.pids():
        reader.up()  # README.md was not run before
    for language, text in own:
        here = text
        for pattern, replacement in replaced.items():
            if document.name != "README.md" or "smoke.yaml" not in pattern:
                here = re.sub(pattern, replacement, here)
        done = reader.run(
            ["bash", "-c", here] if language == "bash" else [sys.executable, "-c", here]
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}{reader.logs()}"


def test_the_text_ends_with_everything_stopped() -> None:
    ups_and_downs = [text for *_, text in steps() if re.match(r"make (up|down|demo)", text)]
    assert ups_and_downs[0] == "make up"
    assert ups_and_downs[-1] == "make down"


def test_ci_runs_what_this_test_leaves_out() -> None:
    assert set((ROOT / ".ci/run").read_text().splitlines()) >= RUN_BY_CI


def make_targets() -> set[str]:
    """The targets that `make help` shows."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("block", list(blocks("sh")), ids=lambda block: block.heading)
def test_commands_that_are_not_run_exist(reader: System, block: Block) -> None:
    for line in shell_lines(block):
        words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
        if words[0] == "make":
            assert set(words[1:]) <= make_targets(), line
        elif Path(words[0]).name.startswith("python"):
            path = words[2].replace(".", "/") if words[1] == "-m" else words[1]
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), line
        else:
            command = words[: 3 if words[1] == "pip" else 2]
            shown = reader.run([*command, "--help"])
            assert shown.returncode == 0, f"{line}\n{shown.stderr}"
            options = {word for word in words if word.startswith("--")}
            assert options <= set(re.findall(r"--[a-z-]+", shown.stdout)), line


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=lambda block: block.heading)
def test_yaml_is_accepted(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if "games" in content:
        file = tmp_path / "experiment.yaml"
        file.write_text(block.text)
        load_experiment(file)
    elif "router" in content:
        GatewayConfig.model_validate({"listen": "127.0.0.1:0", **content})
    elif "models" not in content:
        routes = {"hf_": {"targets": ["127.0.0.1:1"]}}
        RouterConfig.model_validate({"listen": "127.0.0.1:0", "routes": routes, **content})
    else:
        first = content["models"][0]
        backend = (first if isinstance(first, str) else first["name"]).partition("_")[0]
        CONFIGS[backend].model_validate({"listen": "127.0.0.1:0", **content})


def test_every_make_target_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        code = "\n".join(re.findall(r"`[^`]+`", (ROOT / document).read_text()))
        assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= make_targets(), document


def test_every_path_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        paths = {
            *re.findall(r"`((?:[a-z_]+/)+(?:\w+\.\w+)?)`", text),
            *re.findall(r"`([\w.]+\.(?:py|yaml|toml|md))`", text),
        }
        links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", text)
        missing = [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]
        missing += [link for link in links if not (ROOT / document.parent / link).exists()]
        assert not missing, document
