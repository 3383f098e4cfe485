"""Exports a checkpoint, in a process of its own: `python -m services.hf.openvino.export`.

transformers computes the model once on example tokens, and OpenVINO converts what it computed.
The attention is registered with transformers and leaves a marker for each layer. Needs torch.
Prints a JSON object: the facts of the export, or {"refused": reason}.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
import transformers
from openvino import opset13 as ops
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from transformers import AutoModelForCausalLM

from services.common.errors import ModelMisconfigured
from services.hf.config import HfModel
from services.hf.forward_causal import suppressed_tokens, usable_tokens
from services.hf.openvino.compress import compress
from services.hf.openvino.operator import Attention, mark
from services.hf.openvino.verify import Refused, verify
from services.hf.weights import check_fit

_NAME = "arena_llm_paged"
_OPERATOR = "arena_llm::paged_attention"

#: Arguments of attention that change nothing here, or that the pass gives in another form.
_HARMLESS = {"dropout", "is_causal", "position_ids", "use_cache", "cache_position"}
_HARMLESS |= {"output_attentions", "output_hidden_states", "position_embeddings", "training"}


class FlatModel(torch.nn.Module):
    """A causal model over a flat list of tokens. attentions: what its layers need."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.attentions: list[Attention] = []
        self._places = torch.empty(0)
        self._hook = model.get_output_embeddings().register_forward_pre_hook(self._gather)

    def _gather(self, module: Any, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Compute the logits of the wanted places alone."""
        return (arguments[0][:, self._places],)

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, sampled: torch.Tensor
    ) -> torch.Tensor:
        self.attentions.clear()
        self._places = sampled
        output = self.model(
            input_ids=input_ids[None], position_ids=position_ids[None], use_cache=False
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any = None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        """The attention function of transformers. States: [1, heads, tokens, size] each."""
        unknown = {n for n, v in others.items() if v is not None} - _HARMLESS
        if unknown:
            raise Refused(f"its attention uses {', '.join(sorted(unknown))}")
        if query.shape[3] != value.shape[3]:
            raise Refused("its keys and values have different sizes")
        attention = Attention(
            layer=len(self.attentions),
            scale=int(query.shape[3]) ** -0.5 if scaling is None else float(scaling),
            window=int(sliding_window or 0),
            # While torch traces, a size is a tensor.
            heads=int(query.shape[1]),
            kv_heads=int(key.shape[1]),
            key_size=int(key.shape[3]),
            value_size=int(value.shape[3]),
        )
        self.attentions.append(attention)
        flat = [states[0].transpose(0, 1).flatten(1) for states in (query, key, value)]
        output = torch.ops.arena_llm.paged_attention(*flat, attention.layer)
        return output.view(1, query.shape[2], query.shape[1], query.shape[3]), None

    def restore(self) -> Any:
        """The plain model."""
        self._hook.remove()
        self.model.set_attn_implementation("sdpa")
        return self.model


def export(
    folder: Path, target: Path, *, half: bool, ignore_weights: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """Write the model to `target`. Returns its facts. Raises Refused.

    half: store the weights in 16 bits even if that changes them. ignore_weights: see HfModel.
    options: of from_pretrained.
    """
    model = _load(folder, ignore_weights, options)
    flat = FlatModel(model)
    transformers.AttentionInterface.register(_NAME, flat.attend)
    model.set_attn_implementation(_NAME)
    library: Any = torch.library.Library("arena_llm", "DEF")  # type: ignore[no-untyped-call]
    library.define("paged_attention(Tensor q, Tensor k, Tensor v, int layer) -> Tensor")
    library.impl("paged_attention", lambda query, key, value, layer: query.clone(), "CPU")
    converted = _convert(flat)
    embedded, tokens = model.get_input_embeddings().weight.shape[0], usable_tokens(model)
    parameters = [*model.parameters()]
    fits = all(map(_fits_half, parameters))
    half = half or fits
    file = target / "model.xml"
    if half:
        _save_rounded(converted, file)
    else:
        compress(converted)
        ov.save_model(converted, file, compress_to_fp16=False)
    del converted
    difference = verify(flat.restore(), file, tokens, rounded=half and not fits)
    generation = model.generation_config
    ends = generation.eos_token_id if generation else None
    return {
        "embedded": embedded,
        "tokens": tokens,
        "end_tokens": ends if isinstance(ends, list) else [] if ends is None else [ends],
        "suppressed": suppressed_tokens(model),
        "size": file.with_suffix(".bin").stat().st_size,
        "half": half,
        "difference": difference,
    }


def _load(folder: Path, ignore_weights: Sequence[str], options: dict[str, Any]) -> Any:
    config = transformers.AutoConfig.from_pretrained(
        folder, trust_remote_code=options["trust_remote_code"]
    )
    if config.is_encoder_decoder:
        raise Refused("it is an encoder-decoder model")
    auto: Any = AutoModelForCausalLM
    model, report = auto.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    entry = HfModel(
        name="this model",
        allow_pickle=options["use_safetensors"] is None,
        ignore_weights=[*ignore_weights],
    )
    try:
        check_fit(entry, folder, model, report)
    except ModelMisconfigured as error:
        raise Refused(error.message) from error
    return model.eval()


def _convert(flat: FlatModel) -> ov.Model:
    # Not openvino.convert_model, which reports its use over the network.
    example = {
        "input_ids": torch.tensor([1, 2, 3]),
        "position_ids": torch.tensor([0, 1, 2]),
        "sampled": torch.tensor([1, 2]),
    }
    with torch.no_grad():
        decoder = TorchScriptPythonDecoder(
            flat, example_input=example, trace_kwargs={"check_trace": False}
        )
    layers = flat.model.config.get_text_config(decoder=True).num_hidden_layers
    if len(flat.attentions) != layers:
        others = layers - len(flat.attentions)
        raise Refused(f"{others} of its {layers} layers have another kind of attention or state")

    def replace(context: Any) -> list[Any]:
        attention = flat.attentions[context.get_values_from_const_input(3)]
        query, key, value = (context.get_input(place) for place in range(3))
        return [mark(query, key, value, attention)]

    frontend = FrontEndManager().load_by_framework("pytorch")
    frontend.add_extension(ConversionExtension(_OPERATOR, replace))
    model: ov.Model = frontend.convert(frontend.load(decoder))
    for port, name in zip(model.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    return model


def _fits_half(parameter: torch.Tensor) -> bool:
    return bool((parameter.half().float() == parameter).all())


def _save_rounded(model: ov.Model, file: Path) -> None:
    """Store the weights as float16, but vectors, such as the angles of positions, unchanged."""
    vectors = {
        node.get_friendly_name(): np.array(node.data)
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant"
        and node.get_element_type() == ov.Type.f32
        and _is_vector(node)
    }
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        everything = Path(scratch) / "model.xml"
        ov.save_model(model, everything, compress_to_fp16=True)
        rounded = ov.Core().read_model(everything)
        for node in rounded.get_ordered_ops():
            if node.get_type_name() != "Convert":
                continue
            constant = node.input_value(0).get_node()
            name = constant.get_friendly_name().removesuffix("_compressed")
            if constant.get_type_name() == "Constant" and name in vectors:
                node.output(0).replace(ops.constant(vectors[name]).output(0))
        rounded.validate_nodes_and_infer_types()
        ov.save_model(rounded, file, compress_to_fp16=False)


def _is_vector(node: Any) -> bool:
    shape: list[int] = list(node.get_output_shape(0))
    return sum(size > 1 for size in shape) < 2


def main() -> None:
    """Read the arguments; print the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--allow-pickle", action="store_true")
    parser.add_argument("--ignore-weights", action="append", default=[])
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        facts = export(
            arguments.folder,
            arguments.target,
            half=arguments.half,
            ignore_weights=arguments.ignore_weights,
            trust_remote_code=arguments.trust_remote_code,
            use_safetensors=None if arguments.allow_pickle else True,
        )
    except Refused as error:
        facts = {"refused": str(error)}
    except Exception as error:  # any library's error about the files or the conversion
        why = " ".join(str(error).split())[:300]
        facts = {"refused": f"it cannot be converted: {type(error).__name__}: {why}"}
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
