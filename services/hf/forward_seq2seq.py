"""Forward passes of encoder-decoder models. The encoder reads the prompt once.

The decoder's cache and the encoded prompt are two windows over the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from services.common.local.containment import contained
from services.hf.cache import CacheSize, WindowCache, left_padded_mask
from services.hf.forward import Batch, Floats, Forward, Scored, ScoringTask, Work, score_text
from services.hf.forward_causal import PrefilledRow, to_numpy, usable_tokens


def find_beginning(model: Any) -> list[int]:
    """The tokens with which the decoder begins, as transformers' `generate` finds them.

    The second one, if any, is what a completion always begins with, such as the language of a
    translation. It is no part of the text.
    """
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    for name in ("decoder_start_token_id", "bos_token_id"):
        for config in (model.generation_config, model.config):
            token = getattr(config, name, None)
            if isinstance(token, int):
                return [token, forced] if isinstance(forced, int) else [token]
    raise ValueError("it has no token with which its decoder begins: set decoder_start_token_id")


class Seq2SeqForward:
    """Encoder-decoder models with relative positions (T5 and its relatives).

    Every token of an encoded prompt also depends on the tokens after it, so no token can be
    reused by another prompt: there is no prefix cache.
    """

    prefixes = None
    mixes = False

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.beginning = find_beginning(model)
        self.tokens = usable_tokens(model)
        self.size = CacheSize()

    def pass_tokens(self, limit: int) -> int:
        return limit

    def thread_context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def uncached(self) -> Forward:
        return self

    def cache_bytes(self, widths: Sequence[int]) -> int:
        return self.size.bound(widths, max(widths, default=0))

    @property
    def held_bytes(self) -> int:
        return self.size.held_bytes

    def return_memory(self) -> None:
        """Nothing to return: the cache has only the columns of the rows that run."""

    def new_batch(self) -> Batch:
        return Seq2SeqBatch(self)

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        # One by one: an encoder has no cache with which to read a prompt in pieces, and every
        # row's encoding is exact without padding.
        done: list[PrefilledRow] = []
        for prompt in prompts:
            if done:
                yield
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            output = self._decode(self._encode(prompt), [self.beginning], cache)
            # A row has a column of each for every token at the most.
            self.size.token_bytes = sum(
                layer.keys[0, :, 0].nbytes + layer.values[0, :, 0].nbytes
                for part in (cache.self_attention_cache, cache.cross_attention_cache)
                for layer in cast("list[Any]", part.layers)
            )
            done.append(
                PrefilledRow(
                    cache.self_attention_cache,
                    0,
                    len(self.beginning),
                    to_numpy(output.logits[0, -1, : self.tokens]),
                    encoded=cache.cross_attention_cache,
                )
            )
        return done

    def score(self, task: ScoringTask) -> Work:
        encoded = self._encode(task.prompt)
        scores = []
        for tokens in task.continuations:
            yield
            # All passes share the encoded prompt; the decoder reads one continuation per pass.
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            output = self._decode(encoded, [[*self.beginning, *tokens[:-1]]], cache)
            logits = output.logits[0, len(self.beginning) - 1 :, : self.tokens]
            scores.append(score_text(to_numpy(logits), tokens, task.top))
        return Scored(scores, [])

    def _encode(self, prompt: list[int]) -> Any:
        tokens = torch.tensor([prompt], device=self.device)
        return contained(self.model.get_encoder(), input_ids=tokens)

    def _decode(self, encoded: Any, tokens: list[list[int]], cache: EncoderDecoderCache) -> Any:
        return contained(
            self.model,
            encoder_outputs=encoded,
            decoder_input_ids=torch.tensor(tokens, device=self.device),
            past_key_values=cache,
            use_cache=True,
        )


class Seq2SeqBatch:
    """A running batch of an encoder-decoder model."""

    ragged = False

    def __init__(self, forward: Seq2SeqForward) -> None:
        self._forward = forward
        self._decoded = WindowCache()
        self._encoded = WindowCache()
        self._forward.size.held = [self._decoded, self._encoded]

    def join(self, rows: Sequence[PrefilledRow]) -> None:
        encoded: list[Any] = [prefilled.encoded for prefilled in rows]
        widths = [cache.layers[0].keys.shape[2] for cache in encoded]
        self._decoded.make_room([prefilled.length for prefilled in rows])
        self._encoded.make_room(widths)
        for prefilled, cache, width in zip(rows, encoded, widths, strict=True):
            self._decoded.insert(prefilled.cache, prefilled.row, prefilled.length)
            self._encoded.insert(cache, prefilled.row, width)

    def leave(self, row: int, *, wipe: bool = False) -> None:
        self._decoded.remove(row, wipe=wipe)
        self._encoded.remove(row, wipe=wipe)

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        forward, device = self._forward, self._forward.device
        count = len(tokens[0])
        self._decoded.reserve(count)
        self._encoded.expose()
        cache = EncoderDecoderCache(self._decoded, self._encoded)
        cache.is_updated = dict.fromkeys(range(len(self._encoded.layers)), True)
        window = self._encoded.window
        # Cross-attention reads its keys from the cache and uses only the shape of the encoder's
        # output.
        shape = (len(tokens), window.width, forward.model.config.hidden_size)
        placeholder = torch.zeros(1, 1, 1, device=device, dtype=forward.model.dtype).expand(shape)
        output = contained(
            forward.model,
            encoder_outputs=BaseModelOutput(last_hidden_state=placeholder),
            attention_mask=left_padded_mask(window.lengths, window.width, device),
            decoder_input_ids=torch.tensor(tokens, device=device),
            decoder_attention_mask=self._decoded.mask(device, extra=count),
            past_key_values=cache,
            use_cache=True,
        )
        self._decoded.advance(count)
        return to_numpy(output.logits[:, -1, : forward.tokens])

    def close(self) -> None:
        self._decoded, self._encoded = WindowCache(), WindowCache()
        self._forward.size.held = [self._decoded, self._encoded]
