"""A complete backend in one file: it repeats the last message, word by word.

Serve it with `python -m examples.parrot --config examples/parrot.yaml`.
"""

from collections.abc import Sequence

from arena_llm.types import (
    Availability,
    Choices,
    Completion,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Usage,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ModelEntries, ModelEntry, ServiceConfig
from services.common.errors import ModelNotFound
from services.common.server import main


class ParrotConfig(ServiceConfig):
    models: ModelEntries[ModelEntry]


class ParrotBackend(BaseLLMBackend[ParrotConfig]):
    name = "parrot"
    config_type = ParrotConfig
    fields = frozenset({"config.max_tokens", "config.stop", "constraint.choices"})  # no others

    async def generate_response(self, request: GenerationRequest) -> Completion:
        if request.model not in {entry.name for entry in self.config.models}:
            raise ModelNotFound(f"{request.model!r} is not configured", field="model")
        prompt = request.messages[-1].text
        match request.constraint:
            case Choices(values):
                text = next((value for value in values if value in prompt), values[0])
                usage = Usage(len(prompt.split(" ")), 1)
                return Completion(Message("assistant", text), FinishReason.STOP, usage)
        text = prompt
        for stop in request.sampling.stop:
            text = text.partition(stop)[0]
        words = text.split(" ")
        spoken = words[: request.sampling.max_tokens or len(words)]
        reason = FinishReason.STOP if spoken == words else FinishReason.LENGTH
        usage = Usage(prompt_tokens=len(prompt.split(" ")), completion_tokens=len(spoken))
        return Completion(Message("assistant", " ".join(spoken)), reason, usage)

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY)

    async def get_available_models(self) -> Sequence[Model]:
        return [Model(entry.name) for entry in self.config.models]


if __name__ == "__main__":
    main(ParrotBackend)
