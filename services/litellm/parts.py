"""Parts of messages as litellm wants and returns them: reasoning, states, images, tool calls.

https://docs.litellm.ai/docs/reasoning_content
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from arena_llm.types import GenerationRequest, Image, Message, Reasoning, ReasoningForm, Text
from services.common.errors import Unsupported, repair_text
from services.common.hosted.messages import MessageWriter
from services.common.hosted.parts import CallPiece
from services.common.hosted.state import make_forgery, pick_list
from services.common.hosted.values import count, label

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel

#: Where litellm puts Gemini's signature into the id of a tool call.
_SIGNATURE_MARK = "__thought__"

# litellm's names, which are also those in states.
_BLOCKS = "thinking_blocks"
_SIGNATURES = "thought_signatures"
_SIGNATURE = "thought_signature"

#: The state of reasoning that its provider does not want back.
_NOTHING_TO_SEND = {"sent_back": False}


def make_origin(model: ProviderModel) -> str:
    """The origin of a model's states."""
    return f"litellm/{model.provider}/{model.model}"


class LiteLlmWriter(MessageWriter):
    """Writes messages for litellm."""

    def __init__(self, request: GenerationRequest, model: ProviderModel) -> None:
        super().__init__(request)
        self._model = model
        self.origin = make_origin(model)
        self.sends_hints = model.is_claude

    def check_message(self, index: int, message: Message, place: str) -> None:
        # litellm would move it to the beginning.
        if message.role == "system" and index and (self._model.is_claude or self._model.is_gemini):
            raise Unsupported(
                f"{self._model.full_name} takes a system message only at the beginning",
                field=place,
            )
        blank = all(isinstance(part, Text) and not part.text.strip() for part in message.parts)
        if blank and self._model.is_claude and message.role in ("system", "user"):
            # litellm would write words of its own in its place.
            raise Unsupported(
                f"{self._model.full_name} takes no message of white space alone", field=place
            )

    def check_image(self, image: Image, place: str) -> None:
        model = self._model
        if not model.sees:
            raise Unsupported(f"{model.full_name} takes no images", field=place)
        if image.url is not None and (model.is_gemini or not model.fetches_images):
            raise Unsupported(
                f"{model.full_name} takes no URL of an image: send the bytes as data",
                field=f"{place}.url",
            )
        if image.detail is not None and not model.takes_detail:
            raise Unsupported(
                f"{model.full_name} takes no detail of an image: leave it out",
                field=f"{place}.detail",
            )

    def check_result_image(self, place: str) -> None:
        if not self._model.is_claude:
            raise Unsupported(
                f"{self._model.full_name} takes no images in the result of a tool: send them in a "
                "message of the user",
                field=place,
            )

    def write_reasoning(self, part: Reasoning, state: Mapping[str, Any], place: str) -> Any:
        if state:
            return _write_signatures(state, place)
        if self._model.is_claude or self._model.is_gemini:  # litellm would leave it out
            raise Unsupported(
                f"{self._model.full_name} takes reasoning only with its own state: leave the part "
                "out",
                field=f"{place}.reasoning",
            )
        return {"reasoning_content": part.text} if part.text else {}

    def write_text_state(self, state: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        return _write_signatures(state, place)

    def write_call_state(self, state: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        signature = state.get(_SIGNATURE)
        if signature is None:
            return {}
        if not isinstance(signature, str):
            raise make_forgery(f"{place}.state")
        return {"provider_specific_fields": {_SIGNATURE: signature}}

    def continue_last(self, message: dict[str, Any]) -> None:
        if not self._model.continues:
            super().continue_last(message)
        message["prefix"] = True


def _write_signatures(state: Mapping[str, Any], place: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if blocks := pick_list(state, _BLOCKS, dict, f"{place}.state"):
        fields[_BLOCKS] = blocks
    if signatures := pick_list(state, _SIGNATURES, str, f"{place}.state"):
        fields["provider_specific_fields"] = {_SIGNATURES: signatures}
    return fields


def read_call(call: Any) -> CallPiece:
    """Read a tool call of litellm's, or a piece of one."""
    function = call.function
    id, _, signature = label(call.id).partition(_SIGNATURE_MARK)
    fields = getattr(call, "provider_specific_fields", None)
    if isinstance(fields, dict):
        signature = label(fields.get(_SIGNATURE)) or signature
    return CallPiece(
        count(getattr(call, "index", None)),
        id,
        label(function.name),
        repair_text(function.arguments or ""),
        {_SIGNATURE: signature} if signature else None,
    )


class ThoughtReader:
    """Joins the states of reasoning and text from litellm's chunks."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._signatures: list[str] = []

    def add(self, message: Any) -> None:
        """Add the states of a message, or of a piece of one."""
        for block in getattr(message, _BLOCKS, None) or ():
            if isinstance(block, dict):
                self._add_block(block)
        fields = getattr(message, "provider_specific_fields", None)
        signatures = fields.get(_SIGNATURES) if isinstance(fields, dict) else None
        if isinstance(signatures, list):
            self._signatures += (s for s in signatures if isinstance(s, str))

    def _add_block(self, piece: dict[str, Any]) -> None:
        last = self._blocks[-1] if self._blocks else {}
        text = piece.get("thinking") or ""
        if piece.get("type") == last.get("type") == "thinking" and not last.get("signature"):
            last["thinking"] = (last.get("thinking") or "") + text
            last["signature"] = piece.get("signature") or ""
        else:
            self._blocks.append(dict(piece))

    def reasoning_state(self, model: ProviderModel, reasoned: bool) -> dict[str, Any]:
        """The state of all reasoning; empty if there is none. reasoned: the answer has some."""
        blocks = self._blocks
        if model.is_gemini:  # which wants only signatures back
            blocks = [block for block in blocks if block.get("signature")]
        if blocks:
            return {_BLOCKS: blocks}
        return _NOTHING_TO_SEND if reasoned and (model.is_gemini or model.is_claude) else {}

    def text_state(self, calls: set[str]) -> dict[str, Any]:
        """The state of the text. calls: the signatures that belong to tool calls."""
        own = [signature for signature in self._signatures if signature not in calls]
        return {_SIGNATURES: own} if own else {}


def find_form(model: ProviderModel) -> ReasoningForm | None:
    """What the model's reasoning text is; None if that is not known."""
    return ReasoningForm.SUMMARY if model.is_claude or model.is_gemini else None
