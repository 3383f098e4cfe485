"""The contract: linted, formatted, unbroken, and the committed stubs are what it generates."""

from __future__ import annotations

import hashlib
import importlib
import re
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


def test_the_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto"]
    messages = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    subprocess.run([*protoc, *messages, *PROTOS], cwd=ROOT, check=True)
    service = [f"--grpc_python_out={tmp_path}", "proto/arena_llm/v1/llm_service.proto"]
    subprocess.run([*protoc, *service], cwd=ROOT, check=True)
    fresh = {path.name: path.read_text() for path in (tmp_path / STUBS).iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (ROOT / "client/src" / STUBS).iterdir()
        if "_pb2" in path.name
    }
    assert len(PROTOS) * 2 + 1 == len(fresh)
    assert sorted(fresh) == sorted(committed), "run `make proto` and commit"
    for name, text in fresh.items():
        assert text == committed[name], f"{name} is out of date: run `make proto` and commit"


@pytest.mark.parametrize(
    "arguments",
    [["lint"], ["format", "--diff", "--exit-code"], ["breaking", "--against", str(IMAGE)]],
)
def test_buf(arguments: list[str]) -> None:
    buf = Path(sys.executable).with_name("buf")
    ended = subprocess.run([str(buf), *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def read_image() -> dict[str, FileDescriptorProto]:
    """Return the files of the committed image."""
    image = FileDescriptorSet.FromString((ROOT / IMAGE).read_bytes())
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
    whole = b"".join(serialize(image[name]) for name in sorted(image))
    digest = hashlib.sha256(whole).hexdigest()
    changes = read_changes()
    assert sorted(changes) == list(range(1, REVISION + 1))
    assert changes[REVISION] == digest, f"{remedy}, with the digest {digest}"
    assert len(set(changes.values())) == len(changes)
