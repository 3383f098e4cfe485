"""The pages of ListModels."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest

from arena_llm.types import Model
from arena_llm.v1.models_pb2 import ListModelsRequest
from services.common.errors import InvalidRequest
from services.common.pages import DEFAULT_PAGE, LARGEST_PAGE, make_page

MODELS = [Model(f"hf_{number:04}") for number in range(LARGEST_PAGE + 500)]


def walk(models: Sequence[Model], size: int, prefix: str = "") -> list[list[str]]:
    """Return the names on all pages."""
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        request = ListModelsRequest(page_size=size, page_token=token, name_prefix=prefix)
        page, token = make_page(models, request)
        pages.append([model.name for model in page])
    return pages


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, [DEFAULT_PAGE] * 3),
        (700, [700, 700, 100]),
        (10**6, [LARGEST_PAGE, 500]),
    ],
)
def test_the_pages_hold_every_model_once(size: int, lengths: list[int]) -> None:
    pages = walk(MODELS, size)
    assert [len(page) for page in pages] == lengths
    assert [name for page in pages for name in page] == [model.name for model in MODELS]


def test_a_list_without_models_is_one_empty_page() -> None:
    assert walk([], 10) == [[]]
    assert walk(MODELS, 10, "vllm_") == [[]]


def test_only_names_with_the_prefix() -> None:
    assert walk(MODELS, 4, "hf_000") == [
        ["hf_0000", "hf_0001", "hf_0002", "hf_0003"],
        ["hf_0004", "hf_0005", "hf_0006", "hf_0007"],
        ["hf_0008", "hf_0009"],
    ]


def test_a_list_that_changes_between_two_pages_shows_no_model_twice() -> None:
    models = [Model(name) for name in ("hf_a", "hf_b", "hf_c", "hf_d")]
    _, token = make_page(models, ListModelsRequest(page_size=2))
    later = ListModelsRequest(page_size=9, page_token=token)
    shifted = [Model("hf_new"), *models]
    assert [model.name for model in make_page(shifted, later)[0]] == ["hf_c", "hf_d"]
    # The last model of the page has gone: the next page begins at its position.
    gone = [Model("hf_a"), *models[2:]]
    assert [model.name for model in make_page(gone, later)[0]] == ["hf_c", "hf_d"]
    assert make_page([], later) == ([], "")


@pytest.mark.parametrize(
    "token",
    ["mine", "%%%", "é", *(base64.b64encode(text).decode() for text in (b"one hf_a", b"\xff"))],
)
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_page(MODELS, ListModelsRequest(page_token=token))
    assert caught.value.field == "page_token"


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_page(MODELS, ListModelsRequest(page_size=-1))
    assert caught.value.field == "page_size"
