"""litellm is imported at the first call, and holds nothing up before or meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arena_llm import ArenaError, Client
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until

MODEL = "litellm_openai/gpt-4o-mini"
#: What stands in place of litellm: its import does not end.
ENDLESS = """
import pathlib, time
pathlib.Path({0!r}).touch()
while True:
    time.sleep(0.1)
"""


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A file that exists once the import has begun."""
    return tmp_path / "begun"


@pytest.fixture
def service(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceProcess]:
    """The service, in an environment in which the import of litellm does not end."""
    package = tmp_path / "site" / "litellm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(ENDLESS.format(str(begun)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *sys.path]))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted0123456789")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "models.yaml"
    config.write_text(json.dumps({"listen": address, "models": [MODEL]}))  # JSON is YAML
    with ServiceProcess(address, "-m", "services.litellm", "--config", str(config)) as process:
        yield process


def test_a_call_imports_litellm_and_a_signal_ends_the_import(
    service: ServiceProcess, begun: Path
) -> None:
    assert not begun.exists()
    assert service.peak_memory() < 100e6
    errors: list[ArenaError] = []

    def call() -> None:
        with Client(service.address, timeout=120) as llm:
            try:
                llm.generate(MODEL, "hi")
            except ArenaError as error:
                errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    wait_until(begun.exists)
    with Client(service.address, timeout=60) as llm:
        assert llm.is_available(MODEL).state == "loading"
        assert [model.name for model in llm.list_models()] == [MODEL]
    service.signal(signal.SIGTERM)
    assert service.process.wait(timeout=20) == 0, "the grace of running calls is 30 s"
    caller.join()
    assert [error.reason for error in errors] == ["UPSTREAM_UNAVAILABLE"]


def test_an_import_that_fails_fails_the_call(
    service: ServiceProcess, begun: Path, tmp_path: Path
) -> None:
    """The next call tries again."""
    (tmp_path / "site" / "litellm" / "__init__.py").write_text("raise ImportError('no litellm')")
    with Client(service.address, timeout=60) as llm:
        for _ in range(2):
            with pytest.raises(ArenaError) as caught:
                llm.generate(MODEL, "hi")
            assert caught.value.code == "INTERNAL"
