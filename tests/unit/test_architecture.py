"""The rules of the design that keep the parts apart."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from arena_llm_compat.backends.base_backend import split_model_name
from router.config import RouterConfig
from services.common.backend import BaseLLMBackend
from services.common.config import load_config
from services.common.fields import ALWAYS_HONOURED, PATHS
from services.common.local.backend import LocalBackend

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BACKENDS = sorted(
    folder.name
    for folder in (ROOT / "services").iterdir()
    if folder.name != "common" and (folder / "__init__.py").exists()
)
HEAVY = ("torch", "vllm", "litellm", "transformers", "openai", "rich", "pygments", "opentelemetry")


@cache
def imports(path: Path) -> tuple[str, ...]:
    """The full names of all modules that a file imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def packages(folder: str) -> Iterator[tuple[Path, str]]:
    """Each file of a folder with each top-level package that it imports."""
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            yield path.relative_to(ROOT), name.partition(".")[0]


#: All folders with product code but client-compat/src, on which nothing else depends.
PARTS = (
    "client/src",
    "services",
    "router",
    "gateway",
    "arena",
    "deploy",
    "scripts",
    "bench",
)


def module_name(path: Path) -> str:
    """The name under which a file is imported."""
    name = str(path.relative_to(ROOT).with_suffix("")).removeprefix("client/src/")
    return name.removesuffix("/__init__").replace("/", ".")


def test_no_file_imports_itself_by_way_of_others() -> None:
    """In a cycle no file can be read, or moved, without the others."""
    files = {module_name(p): p for part in PARTS for p in (ROOT / part).rglob("*.py")}

    def find_imported(name: str) -> set[str]:
        found = imports(files[name])
        return {n if n in files else n.rpartition(".")[0] for n in found} & files.keys() - {name}

    imported = {name: find_imported(name) for name in files}
    while leaves := {name for name, others in imported.items() if not others}:
        imported = {name: others - leaves for name, others in imported.items() if others}
    assert not imported, "a cycle, and the files that import one of its files"


def test_there_are_backends_to_check() -> None:
    assert "hf" in BACKENDS


def test_no_folder_shadows_a_library() -> None:
    """services/ must be a package (or services/vllm could be `vllm`), proto/ must not
    (or it would shadow proto-plus)."""
    assert (ROOT / "services/__init__.py").exists()
    assert not list((ROOT / "proto").rglob("*.py"))


@pytest.mark.parametrize(
    "module", ["arena_llm.client", "arena_llm_compat.backends.llm_registry", "router.servicer"]
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "arena_llm" in loaded
    assert not set(loaded) & set(HEAVY)
    if module != "router.servicer":
        assert not set(loaded) & {"services", "router", "pydantic", "yaml", "uvloop"}


def test_the_client_imports_nothing_of_the_services() -> None:
    found = [pair for pair in packages("client/src") if pair[1] in ("services", "router", "arena")]
    assert not found


def test_the_arena_uses_the_client_alone() -> None:
    found = [pair for pair in packages("arena") if pair[1] in ("services", "router", "grpc")]
    assert not found


def test_the_gateway_calls_models_through_the_client_alone() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        for name in imports(path):
            package, _, rest = name.partition(".")
            assert package not in ("grpc", "router", "arena", "deploy"), path
            assert not name.startswith("arena_llm.v1"), f"{path}: domain types only"
            if package == "services":
                assert rest.partition(".")[0] == "common", path


@pytest.mark.parametrize("folder", ["services", "router", "gateway", "arena"])
def test_a_package_imports_nothing_that_only_a_checkout_has(folder: str) -> None:
    installed = {"services", "router", "gateway", "arena"}
    checkout = {path.parent.name for path in ROOT.glob("*/__init__.py")} - installed
    assert {"deploy", "release"} <= checkout
    checkout |= {"tests", "bench", "scripts", "docs", "examples"}
    assert not [pair for pair in packages(folder) if pair[1] in checkout]


def test_the_client_imports_only_what_it_declares() -> None:
    allowed = {"grpc", "google", "grpc_health", "arena_llm"}
    # Of the extras arena-llm[yaml], [top] and [otel], and imported where they are used.
    allowed |= {"yaml", "rich", "opentelemetry"}
    foreign = {
        pair
        for pair in packages("client/src")
        if pair[1] not in allowed and pair[1] not in sys.stdlib_module_names
    }
    assert not foreign


@pytest.mark.parametrize(
    "folder", ["arena", "router", "gateway", "services", "deploy", "release", "bench", "scripts"]
)
def test_a_part_imports_no_private_name_of_another_part(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            part, *rest = name.split(".")
            private = [word for word in rest if word.startswith("_") and not word.endswith("_")]
            assert not private or part == folder or part in sys.stdlib_module_names, (path, name)


#: Class names that stand in two modules, each with the reason.
SHARED_CLASS_NAMES = {
    "BaseLLMBackend": "the specification's name, in the services and in the original's import path",
    "OpenRouterBackend": "the original's import path has this name, and so does the service",
    "StrictModel": "the same base of pydantic models, in two parts that import nothing in common",
}


def test_no_class_name_stands_in_two_modules() -> None:
    """A reader who meets a class by its name alone knows which one it is."""
    modules: dict[str, set[str]] = {}
    for folder in (*PARTS, "client-compat/src"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"^ *class (\w+)[:(\[]", path.read_text(), re.MULTILINE):
                modules.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert {name for name, paths in modules.items() if len(paths) > 1} == set(SHARED_CLASS_NAMES)


def test_the_router_and_the_common_ground_know_no_backend() -> None:
    for folder in ("router", "services/common"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in imports(path):
                package, _, rest = name.partition(".")
                assert package not in HEAVY, path
                if package == "services":
                    assert rest.partition(".")[0] == "common", path


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_imports_no_grpc_and_no_other_backend(backend: str) -> None:
    for path in (ROOT / "services" / backend).rglob("*.py"):
        for name in imports(path):
            package, _, rest = name.partition(".")
            assert not package.startswith("grpc"), f"{path}: adapters never see grpc"
            if package == "services":
                assert rest.partition(".")[0] in ("common", backend), path
            assert package not in ("router", "arena"), path
            assert name.rpartition(".")[0] != "arena_llm.v1", f"{path}: domain types only"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_has_its_extra_its_config_and_its_route(backend: str) -> None:
    assert backend in PYPROJECT["project"]["optional-dependencies"]
    assert (ROOT / f"configs/{backend}_models.yaml").exists()
    routes = load_config(ROOT / "configs/router.yaml", RouterConfig).routes
    assert f"{backend}_" in routes
    assert split_model_name(f"{backend}_x") == (backend, "x")


def backend_class(backend: str) -> type[BaseLLMBackend[Any]]:
    """The one backend that services/NAME/backend.py defines."""
    module = importlib.import_module(f"services.{backend}.backend")
    (kind,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseLLMBackend)
        and value.__module__ == module.__name__
    ]
    return kind


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_decides_about_everything_that_a_request_can_hold(backend: str) -> None:
    """It either honours a field or lists it as refused. A new field of the contract fails here
    until each backend decides."""
    kind = backend_class(backend)
    every = (PATHS - ALWAYS_HONOURED) | {"score", "count_tokens"}
    honoured = set(kind.fields)
    honoured |= {"score"} if kind.can_score else set()
    honoured |= {"count_tokens"} if kind.can_count_tokens else set()
    assert honoured <= every
    for path in every:
        # A refused group stands for all its fields that are not honoured.
        places = [path.rsplit(".", level)[0] for level in range(path.count(".") + 1)]
        refused = any(place in kind.refused for place in places)
        assert refused or path in honoured, path
        assert not (path in kind.refused and path in honoured), path


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_maps_every_parameter_that_it_honours(backend: str) -> None:
    """Not only its declaration names the parameter. Whether it has an effect is for the
    backend's own tests."""
    kind = backend_class(backend)
    base = "local" if issubclass(kind, LocalBackend) else "hosted"
    files = [
        *(ROOT / "services" / backend).rglob("*.py"),
        *(ROOT / f"services/common/{base}").rglob("*.py"),
    ]
    code = "\n".join(path.read_text() for path in files if path.name != "backend.py")
    names = {path.rpartition(".")[2] for path in kind.fields if path.startswith("config.")}
    assert not [name for name in names if not re.search(rf"\b{name}\b", code)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backends_config_listens_where_its_route_leads(backend: str) -> None:
    kind = backend_class(backend)
    assert kind.name == backend
    config = load_config(ROOT / f"configs/{backend}_models.yaml", kind.config_type)
    route = load_config(ROOT / "configs/router.yaml", RouterConfig).routes[f"{backend}_"]
    assert config.listen in route.targets


#: Files outside services/ that list the backends.
PLACES = {"pyproject.toml", "configs/router.yaml"}
#: Files that name several backends and need no entry for a new one.
NO_PLACES = {
    "Makefile",  # a comment on the time that litellm takes
    "uv.lock",  # generated
    ".env.example",  # variables in comments
    "client-compat/src/arena_llm_compat/backends/__init__.py",  # the names of the original
}


def test_nothing_but_the_places_of_the_documentation_lists_the_backends() -> None:
    """Otherwise a new backend is complete by its documentation, and still missing somewhere."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    outside = (
        *("services/", "tests/", "bench/", "docs/", "examples/", "configs/experiments/"),
        # tests/integration/test_kubernetes.py names a service that is missing there.
        *("deploy/kubernetes/", "deploy/images/", "configs/kustomization.yaml"),
    )
    lists = set()
    for name in files:
        if name.startswith(outside) or name.endswith((".md", ".png", ".gguf")):
            continue
        text = (ROOT / name).read_text(errors="replace")
        named = [b for b in BACKENDS if re.search(rf"(?<![A-Za-z0-9-]){b}(?![A-Za-z0-9-])", text)]
        if len(named) > len(BACKENDS) / 2:
            lists.add(name)
    assert lists - NO_PLACES == PLACES


def test_the_documentation_lists_every_place_of_a_new_backend() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text() for page in pages if page.exists()]
    sections = [
        section
        for text in texts
        for section in re.split(r"(?m)^#+ ", text)
        if re.match(r"add(ing)? a backend", section, re.IGNORECASE)
    ]
    assert sections
    for place in {*PLACES, "services/NAME/backend.py", "configs/NAME_models.yaml"}:
        assert any(place in section for section in sections), place


@pytest.mark.parametrize(
    "folder", ["router", "gateway", *(f"services/{backend}" for backend in BACKENDS)]
)
def test_an_entry_point_is_ten_lines_at_most(folder: str) -> None:
    assert len((ROOT / folder / "__main__.py").read_text().splitlines()) <= 10


def test_every_dependency_has_an_upper_bound() -> None:
    project = PYPROJECT["project"]
    pins = chain(project["dependencies"], *project["optional-dependencies"].values())
    assert not [pin for pin in pins if "<" not in pin and "==" not in pin]
