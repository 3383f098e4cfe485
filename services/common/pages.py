"""The pages of ListModels: a token says where the next page begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from arena_llm.types import Model
from arena_llm.v1 import models_pb2
from services.common.errors import InvalidRequest, make_field_error

DEFAULT_PAGE = 500
LARGEST_PAGE = 1000

N = TypeVar("N", Model, models_pb2.ModelInfo)


def make_page(models: Sequence[N], request: models_pb2.ListModelsRequest) -> tuple[list[N], str]:
    """Return the models of the requested page, and the token of the next page.

    The token holds the name of the page's last model, so that a list that has changed between
    two pages shows no model twice. It is empty after the last page.
    Raises InvalidRequest for a negative size and for a token that this service did not make.
    """
    if request.page_size < 0:
        raise make_field_error("page_size", "must be at least 0")
    size = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
    named = [model for model in models if model.name.startswith(request.name_prefix)]
    begin = 0
    if request.page_token:
        last, position = _read_token(request.page_token)
        names = [model.name for model in named]
        # If the last model is gone, the page begins at its position.
        begin = names.index(last) + 1 if last in names else min(position, len(names))
    page = named[begin : begin + size]
    end = begin + len(page)
    return page, _make_token(page[-1].name, end - 1) if end < len(named) else ""


def _make_token(name: str, position: int) -> str:
    return base64.urlsafe_b64encode(f"{position} {name}".encode()).decode()


def _read_token(token: str) -> tuple[str, int]:
    try:
        position, _, name = base64.b64decode(token, b"-_", validate=True).decode().partition(" ")
        return name, max(0, int(position))
    except (ValueError, binascii.Error):
        raise _wrong_token() from None


def _wrong_token() -> InvalidRequest:
    return make_field_error("page_token", "is not a next_page_token of this service")
