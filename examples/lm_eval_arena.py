"""A model class for lm-evaluation-harness: any local model of a router, over gRPC.

    pip install lm-eval arena-llm
    python examples/lm_eval_arena.py run --model arena --model_args model=hf_gpt2 --tasks ...

The harness splits texts as for its own transformers model, with the tokenizer of the service, so
the numbers are equal. `model_args`: the arguments of ArenaLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from arena_llm import Client
from arena_llm.types import RawPrompt

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: The texts (context, continuation), or None; the tokens of the context, and of the continuation.
_Pair = tuple[tuple[str, str] | None, list[int], list[int]]


@register_model("arena")
class ArenaLM(TemplateLM):
    """One model of a router, or of a service."""

    def __init__(
        self,
        model: str,
        target: str | None = None,
        prefix: str = "",
        max_length: int | str | None = None,
        concurrency: int | str = 8,
        timeout: float | str = 600,
        **_: Any,
    ) -> None:
        """Raises ArenaError if the models cannot be listed, ValueError without a context length.

        target: an address; None: $ARENA_LLM_TARGET. prefix: the token that comes before a text
        without a context, such as <|endoftext|>. max_length: in tokens; None: the model's.
        concurrency: calls at the same time. timeout: seconds for one call.
        """
        super().__init__()
        self.model = model
        self.client = Client(target, timeout=float(timeout))
        self.concurrency = int(concurrency)
        self.prefix = prefix
        found = (entry for entry in self.client.list_models() if entry.name == model)
        length = max_length or getattr(next(found, None), "context_length", None)
        if not length:
            raise ValueError(f"the context length of {model} is not known: give max_length")
        self.max_length = int(length)
        self._encode = lru_cache(maxsize=4096)(self._ask_for_tokens)

    @property
    def eot_token_id(self) -> int:
        """The token before a text without a context. Raises ValueError if prefix is not one."""
        if not self.prefix:
            raise ValueError("a text has no context: give prefix, such as prefix=<|endoftext|>")
        tokens = self.tok_encode(self.prefix, add_special_tokens=False)
        if len(tokens) != 1:
            raise ValueError(f"prefix: {self.prefix} is not one token of {self.model}: {tokens}")
        return tokens[0]

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Return the ids of a text's tokens. None: special tokens as the tokenizer's default."""
        return list(self._encode(string, add_special_tokens)) if string else []

    def _ask_for_tokens(self, text: str, special: bool | None) -> tuple[int, ...]:
        raw = RawPrompt(text=text, add_special_tokens=special)
        count = self.client.count_tokens(self.model, raw, return_tokens=True)
        if count.trace is None:
            raise ValueError(f"{self.model} does not say how it tokenizes: use a local model")
        return count.trace.ids

    def _loglikelihood_tokens(
        self, requests: Iterable[_Pair], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        def score(pair: _Pair) -> tuple[float, bool]:
            texts, context, continuation = pair
            if len(continuation) > self.max_length:
                raise ValueError(f"a continuation has more than {self.max_length} tokens")
            # The model reads all tokens but the last: a long context loses its beginning.
            context = context[len(continuation) - self.max_length - 1 :]
            raw = RawPrompt(token_ids=tuple(context))
            (found,) = self.client.score(self.model, raw, [continuation])
            answer = found.logprob, found.is_greedy
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
            return answer

        return self._map(score, requests)

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-probability of each whole text."""

        def score(request: Instance) -> float:
            (text,) = request.args
            windows = get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length, 1
            )
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            total = sum(logprob for logprob, _ in self._loglikelihood_tokens(pairs))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
            return total

        return [score(request) for request in requests]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return a text for each request, up to the first of its stop strings."""

        def generate(request: Instance) -> str:
            context, given = request.args
            options = normalize_gen_kwargs(given)
            stop = [text for text in options.get("until") or () if text]
            completion = self.client.generate(
                self.model,
                RawPrompt(text=context),
                max_tokens=options["max_gen_toks"],
                temperature=options.get("temperature", float(options.get("do_sample", False))),
                stop=stop or None,
            )
            self.cache_hook.add_partial("generate_until", request.args, completion.text)
            return completion.text

        return self._map(generate, requests)

    def _map(self, function: Callable[[_In], _Out], values: Iterable[_In]) -> list[_Out]:
        with ThreadPoolExecutor(self.concurrency) as threads:
            return list(threads.map(function, values))


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
