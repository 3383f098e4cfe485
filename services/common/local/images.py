"""How chat templates show the images of a conversation."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena_llm.types import Image, Message, Refusal, Text, ToolResult
from services.common.errors import Unsupported


@dataclass(frozen=True)
class ImageStyle:
    """How a model's template shows images.

    write: the text that stands for the n-th image of the conversation, from 1. reads_parts: the
    template reads the content of a message as a list of parts, and writes this text itself.
    """

    write: Callable[[int], str]
    reads_parts: bool
    #: Stands for an image until the template is rendered. Unknown to callers, so that no text of
    #: theirs becomes an image.
    _mark: str = field(default_factory=lambda: f"image{secrets.token_hex(8)}")

    def describe(self, message: Message, numbers: Iterator[int]) -> str | list[dict[str, Any]]:
        """The content of a message as the template reads it.

        numbers: those of the images that follow.
        """
        if self.reads_parts:
            return [
                {"type": "image"}
                if isinstance(part, Image)
                else {"type": "text", "text": part.text}
                for part in message.parts
                if isinstance(part, Image | Text | Refusal)
            ]
        texts = (
            f"{self._mark}n{next(numbers)}n\n" if isinstance(part, Image) else part.text
            for part in message.parts
            if isinstance(part, Image | Text | Refusal)
        )
        return "".join(texts)

    def insert(self, rendered: str) -> str:
        """The rendered conversation, with the texts of its images."""
        return re.sub(rf"{self._mark}n(\d+)n", lambda found: self.write(int(found[1])), rendered)


def list_images(messages: Sequence[Message]) -> Iterator[tuple[str, Image]]:
    """Yield the images of user messages, each with its path in the request."""
    for index, message in enumerate(messages):
        for number, part in enumerate(message.parts):
            if isinstance(part, Image):
                yield f"conversation.messages[{index}].parts[{number}].image", part


def check_images(model: str, style: ImageStyle | None, message: Message, place: str) -> None:
    """Raise Unsupported for an image that the model would not see.

    style: None for a model that reads no images. place: the path of the message's parts.
    """
    for number, part in enumerate(message.parts):
        if isinstance(part, Image) and style is None:
            raise Unsupported(
                f"{model} reads text only: describe the image, or use a model that reads images",
                field=f"{place}[{number}].image",
            )
        if isinstance(part, ToolResult):
            for inner, result in enumerate(part.parts):
                if isinstance(result, Image):
                    raise Unsupported(
                        f"{model} reads no images in the results of tools: send it in a user "
                        "message",
                        field=f"{place}[{number}].tool_result.parts[{inner}].image",
                    )
