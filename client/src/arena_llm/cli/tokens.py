"""`arena-llm token`: the file of tokens that a router reads.

The command edits the file as text, so that comments and order stay. It prints a token once; the
file has its hash.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_llm.client import Client
from arena_llm.errors import ArenaError, FailedPreconditionError, InvalidArgumentError

if TYPE_CHECKING:
    from arena_llm.cli.output import Output

#: Begins every token, so that scanners of repositories can find a leaked one.
_PREFIX = "arena-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_QUOTAS = ("calls_per_day", "tokens_per_day", "usd_per_day", "max_in_flight")
_HEAD = """\
# Who may call the router: `arena-llm token new NAME` adds an entry, `token revoke NAME` removes it.
# The router reads this file if its configuration has `tokens: {path}`.
tokens:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `token`."""
    parser.add_argument("action", choices=("new", "list", "revoke"), metavar="new|list|revoke")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the token's name, for new, revoke")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="the file of tokens (default: tokens.yaml in $ARENA_CONFIG_DIR, else in configs)",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="PREFIX",
        help="new: prefixes of the models that it may call, such as hf_ (default: all)",
    )
    for quota in _QUOTAS:
        kind, metavar = (float, "USD") if quota.startswith("usd") else (int, "N")
        parser.add_argument(
            f"--{quota.replace('_', '-')}",
            type=kind,
            metavar=metavar,
            help="new: a limit of the token (default: none)",
        )


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Make, list or revoke a token. No server is called."""
    path: Path = args.file or Path(os.environ.get("ARENA_CONFIG_DIR") or "configs") / "tokens.yaml"
    if args.action == "list":
        _list(path, output)
        return 0
    name = args.name or ""
    if not _NAME.fullmatch(name):
        raise _invalid(
            f"the token needs a NAME of letters, digits and . _ -, not {name!r}: "
            f"arena-llm token {args.action} NAME"
        )
    if args.action == "new":
        token = _new(path, name, args)
        output.warn(
            f"{name} is in {path}. This is the only time that its token is shown; its user sets "
            "ARENA_LLM_TOKEN to it"
        )
        output.document({"name": name, "token": token}) if output.json else output.text(token)
    else:
        _revoke(path, name)
        output.warn(f"{name} is no longer in {path}; a running router refuses it within seconds")
    return 0


def _new(path: Path, name: str, args: argparse.Namespace) -> str:
    """Add an entry; return the token."""
    text = path.read_text() if path.exists() else _HEAD.format(path=path)
    if name in _read(path):
        raise _invalid(f"{path} has a token {name} already: revoke it first, or take another name")
    token = _PREFIX + secrets.token_urlsafe(32)
    lines = [f"  {name}:", f'    sha256: "{sha256(token.encode()).hexdigest()}"']
    if args.models:
        lines.append(f"    models: [{', '.join(map(_quote, args.models))}]")
    for quota in _QUOTAS:
        if (limit := getattr(args, quota)) is not None:
            if not 0 < limit < inf:
                raise _invalid(f"{quota} must be a number above 0")
            lines.append(f"    {quota}: {limit}")
    _write(path, "\n".join([text.rstrip("\n"), *lines, ""]), lambda found: name in found)
    return token


def _quote(prefix: str) -> str:
    return "'" + prefix.replace("'", "''") + "'"


def _revoke(path: Path, name: str) -> None:
    if name not in _read(path):
        raise _invalid(f"{path} has no token {name}")
    kept: list[str] = []
    inside = False
    for line in path.read_text().splitlines(keepends=True):
        if re.match(r" {0,2}\S", line):
            inside = re.match(rf"""  ["']?{re.escape(name)}["']?\s*:""", line) is not None
        if not inside:
            kept.append(line)
    _write(path, "".join(kept), lambda found: name not in found)


def _list(path: Path, output: Output) -> None:
    """Print the entries, without the hashes."""
    if not path.exists():
        output.warn(f"there is no file {path}: arena-llm token new NAME --file {path} makes it")
    entries = _read(path)
    shown: dict[str, dict[str, Any]] = {
        name: {key: value for key, value in entry.items() if key != "sha256"}
        for name, entry in entries.items()
    }
    if output.json:
        output.document(shown)
        return
    rows = [
        (
            str(name),
            " ".join(entry.get("models", ())) or "all",
            *(str(entry.get(quota, "-")) for quota in _QUOTAS),
        )
        for name, entry in shown.items()
    ]
    output.table(("TOKEN", "MODELS", *(quota.upper() for quota in _QUOTAS)), rows)


def _read(path: Path) -> dict[Any, dict[str, Any]]:
    """Return the entries by name; none if there is no file."""
    if not path.exists():
        return {}
    try:
        from arena_llm.yaml_file import YamlError, read_mapping
    except ImportError:
        raise FailedPreconditionError(
            "this command needs PyYAML: pip install 'arena-llm[yaml]'"
        ) from None
    try:
        entries = read_mapping(path).get("tokens") or {}
    except YamlError as error:
        raise _invalid(f"{error}") from None
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise _invalid(f"{path}: tokens must be a mapping of names to entries")
    return entries


def _write(path: Path, text: str, is_right: Any) -> None:
    """Replace the file, if `is_right` accepts the entries of the new text.

    A link is kept, and so are the owner and the mode, so that the router can still read the file.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, suffix=".yaml") as file:
        file.write(text)
    new = Path(file.name)
    try:
        if not is_right(_read(new)):
            raise _invalid(f"{path} has a layout that this command cannot edit: edit it by hand")
        if path.exists():
            status = path.stat()
            new.chmod(stat.S_IMODE(status.st_mode))
            with suppress(PermissionError, AttributeError):  # only root can change the owner
                os.chown(new, status.st_uid, status.st_gid)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _invalid(message: str) -> ArenaError:
    return InvalidArgumentError(message, reason="INVALID_REQUEST")
