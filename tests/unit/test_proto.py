"""The contract: linted, formatted, unbroken, and the committed stubs are what it generates."""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from arena_llm.v1 import REVISION

ROOT = Path(__file__).parents[2]
PROTOS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto").rglob("*.proto"))
STUBS = Path("arena_llm/v1")
#: The contract at its newest revision, as a descriptor set.
IMAGE = Path("proto/contract.binpb")
#: The contract of the release 1.0.0, which no later one may break.
RELEASED = Path("proto/contract-1.0.0.binpb")
#: Its revision in proto/CHANGES.md.
RELEASED_REVISION = 7
BREAKING = ["breaking", "--against"]


def test_the_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    """With copies of the files themselves, for those who have the package only."""
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto"]
    messages = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    subprocess.run([*protoc, *messages, *PROTOS], cwd=ROOT, check=True)
    service = [f"--grpc_python_out={tmp_path}", "proto/arena_llm/v1/llm_service.proto"]
    subprocess.run([*protoc, *service], cwd=ROOT, check=True)
    for name in PROTOS:
        shutil.copy(ROOT / name, tmp_path / STUBS)
    fresh = {path.name: path.read_text() for path in (tmp_path / STUBS).iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (ROOT / "client/src" / STUBS).iterdir()
        if "_pb2" in path.name or path.suffix == ".proto"
    }
    assert len(PROTOS) * 3 + 1 == len(fresh)
    assert sorted(fresh) == sorted(committed), "run `make proto` and commit"
    for name, text in fresh.items():
        assert text == committed[name], f"{name} is out of date: run `make proto` and commit"


@pytest.mark.parametrize(
    "arguments",
    [
        ["lint"],
        ["format", "--diff", "--exit-code"],
        [*BREAKING, str(IMAGE)],
        [*BREAKING, str(RELEASED)],
    ],
)
def test_buf(arguments: list[str]) -> None:
    ended = run_buf(ROOT, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def run_buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).with_name("buf")
    return subprocess.run([str(buf), *arguments], cwd=folder, capture_output=True, text=True)


#: Changes that break callers: the file, a text in it, what it becomes, and what buf says.
BREAKING_CHANGES = [
    ("generate", "string session = 12", "string session = 99", 'field "12"'),
    ("generate", "string session = 12", "string game = 12", '"session"'),
    ("generate", "string session = 12", "bytes session = 12", '"session"'),
    ("reply", "FINISH_REASON_LENGTH = 2", "FINISH_REASON_LONG = 2", '"FINISH_REASON_LENGTH"'),
    ("llm_service", "rpc CountTokens(", "rpc Count(", '"CountTokens"'),
    ("llm_service", "rpc Generate(G", "rpc Generate(stream G", '"Generate"'),
]
#: Changes that break nobody: a field, a value, and a method.
ADDITIONS = [
    ("generate", "string session = 12;", "string session = 12;  string mood = 200;"),
    ("reply", "FINISH_REASON_LENGTH = 2;", "FINISH_REASON_LENGTH = 2;  FINISH_REASON_TIRED = 200;"),
    ("llm_service", "rpc Score(", "rpc Rank(ScoreRequest) returns (ScoreResponse); rpc Score("),
]


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """A folder with the contract, for tests to change."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def change(folder: Path, file: str, before: str, after: str) -> None:
    path = folder / f"proto/arena_llm/v1/{file}.proto"
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize(("file", "before", "after", "named"), BREAKING_CHANGES)
def test_a_change_that_breaks_callers_of_the_release_is_found(
    later: Path, file: str, before: str, after: str, named: str
) -> None:
    change(later, file, before, after)
    ended = run_buf(later, *BREAKING, str(RELEASED))
    assert ended.returncode == 100, ended.stdout + ended.stderr
    assert named in ended.stdout


def test_the_contract_may_grow(later: Path) -> None:
    for addition in ADDITIONS:
        change(later, *addition)
    ended = run_buf(later, *BREAKING, str(RELEASED))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def read_image(path: Path = IMAGE) -> dict[str, FileDescriptorProto]:
    """Return the files of a committed image."""
    image = FileDescriptorSet.FromString((ROOT / path).read_bytes())
    image.DiscardUnknownFields()  # what buf adds to each file
    return {file.name: file for file in image.file if file.name.startswith("arena_llm/")}


def read_stubs() -> dict[str, FileDescriptorProto]:
    """Return the files of the generated stubs."""
    files = {}
    for proto in PROTOS:
        name = proto.removeprefix("proto/")
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        module.DESCRIPTOR.CopyToProto(files.setdefault(name, FileDescriptorProto()))
    return files


def serialize(file: FileDescriptorProto) -> bytes:
    """Return a file as bytes, without the names for JSON, which buf writes and Python does not."""
    messages = list(file.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return file.SerializeToString(deterministic=True)


def compute_digest(image: dict[str, FileDescriptorProto]) -> str:
    whole = b"".join(serialize(image[name]) for name in sorted(image))
    return hashlib.sha256(whole).hexdigest()


def read_changes() -> dict[int, str]:
    """Return the digest of each revision in proto/CHANGES.md."""
    text = (ROOT / "proto/CHANGES.md").read_text()
    entries = re.findall(r"^## Revision (\d+)\n+`([0-9a-f]{64})`$", text, re.MULTILINE)
    return {int(number): digest for number, digest in entries}


def test_a_changed_contract_has_a_new_revision() -> None:
    """And an entry in proto/CHANGES.md, whose digest is that of the image."""
    stubs, image = read_stubs(), read_image()
    remedy = (
        "the contract has changed: raise REVISION in client/src/arena_llm/v1/__init__.py, run "
        "`make contract`, and describe the change in proto/CHANGES.md"
    )
    assert stubs.keys() == image.keys(), remedy
    for name, file in stubs.items():
        assert serialize(file) == serialize(image[name]), remedy
    digest = compute_digest(image)
    changes = read_changes()
    assert sorted(changes) == list(range(1, REVISION + 1))
    assert changes[REVISION] == digest, f"{remedy}, with the digest {digest}"
    assert len(set(changes.values())) == len(changes)


def test_the_contract_of_the_release_is_not_changed_later() -> None:
    assert compute_digest(read_image(RELEASED)) == read_changes()[RELEASED_REVISION]
