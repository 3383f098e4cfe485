"""Prompts with images, which vLLM's processors turn into tokens and pixels."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.inputs import TokensPrompt
from vllm.inputs.engine import tokens_input
from vllm.multimodal.image import convert_image_mode, normalize_image, open_image

from arena_llm.types import (
    ContinuationBoundary,
    Conversation,
    Image,
    Input,
    ScoringRequest,
    Tool,
)
from services.common.errors import InvalidRequest, Unsupported, make_field_error
from services.common.local.images import list_images
from services.common.local.request import PromptReader

#: Most pixels of all images of a request. They take 3 bytes each, in files of any size.
_MAX_PIXELS = 100_000_000


class ImagePrompt(list[int]):
    """The tokens of a prompt with images.

    engine_input: vLLM's MultiModalInput. image_tokens: how many of the tokens are images.
    """

    def __init__(self, engine_input: Any) -> None:
        super().__init__(engine_input["prompt_token_ids"])
        self.engine_input = engine_input
        places = engine_input["mm_placeholders"].get("image", ())
        self.image_tokens = sum(place.length for place in places)


def make_input(prompt: Sequence[int], more: Sequence[int] = ()) -> Any:
    """vLLM's input of a prompt and of tokens that follow it."""
    tokens = [*prompt, *more]
    if isinstance(prompt, ImagePrompt):
        return {**prompt.engine_input, "prompt_token_ids": tokens}
    return tokens_input(tokens)


class VllmPromptReader(PromptReader):
    """Also reads the images of conversations.

    renderer: vLLM's renderer of the model.
    """

    def __init__(self, renderer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._renderer = renderer

    def read_scoring(self, request: ScoringRequest) -> tuple[list[int], list[list[int]]]:
        """Return the tokens; with images, some fields are refused as Unsupported."""
        if isinstance(request.input, Conversation) and [*list_images(request.input.messages)]:
            joined = request.boundary is ContinuationBoundary.JOINED
            for field, used in (("boundary", joined), ("prompt_logprobs", request.prompt_logprobs)):
                if used:
                    raise Unsupported(
                        f"{field} cannot be used with images: leave it out", field=field
                    )
        return super().read_scoring(request)

    def read(
        self,
        request_input: Input,
        arguments: Mapping[str, Any] | None = None,
        tools: Sequence[Tool] = (),
    ) -> list[int]:
        """The input's tokens; an ImagePrompt if it has images."""
        tokens = super().read(request_input, arguments or {}, tools)
        if not isinstance(request_input, Conversation):
            return tokens
        images = [*list_images(request_input.messages)]
        return self._insert(tokens, images) if images else tokens

    def _insert(self, tokens: list[int], images: list[tuple[str, Image]]) -> ImagePrompt:
        """The tokens with those of the images."""
        limit = self._renderer.get_mm_processor().info.allowed_mm_limits["image"]
        if len(images) > limit:
            raise InvalidRequest(
                f"{self.name} reads at most {limit} images in a request, not {len(images)}: leave "
                "some out",
                field=images[limit][0],
            )
        prompt = TokensPrompt(
            prompt_token_ids=tokens, multi_modal_data={"image": decode_images(images)}
        )
        try:
            return ImagePrompt(self._renderer.process_for_engine(prompt, time.time()))
        except Exception as error:
            # Each model's processor fails in its own way. Its message may repeat the prompt.
            raise InvalidRequest(
                f"the image processor of {self.name} cannot read these images "
                f"({type(error).__name__}): send images of usual sizes, and no text that stands "
                "for an image",
                field=images[0][0],
            ) from error


def decode_images(images: Sequence[tuple[str, Image]]) -> list[Any]:
    """The images for vLLM, as RGB.

    Raises InvalidRequest with the path of one that cannot be decoded or is too large.
    """
    decoded: list[Any] = []
    pixels = 0
    for place, image in images:
        field = f"{place}.data"
        try:
            file = open_image(io.BytesIO(image.data or b""))  # reads no more than its size
            pixels += file.width * file.height
            if pixels > _MAX_PIXELS:
                raise make_field_error(
                    field,
                    f"must have, with the images before it, at most {_MAX_PIXELS} pixels: scale "
                    "it down",
                )
            file.load()
            # Rotated by its EXIF orientation, and without transparency.
            decoded.append(convert_image_mode(normalize_image(file), "RGB"))
        except InvalidRequest:
            raise
        except Exception as error:  # each format fails in its own way
            raise make_field_error(
                field,
                f"cannot be decoded as an image ({type(error).__name__}): send a whole PNG, "
                "JPEG or WebP file",
            ) from error
    return decoded
