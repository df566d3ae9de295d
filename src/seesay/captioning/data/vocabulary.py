"""The vocabulary of a captioner: four special tokens, and the frequent tokens of the training captions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from seesay.captioning.data.records import SPLITS, CaptionRecords
from seesay.captioning.data.tokenizer import TOKENIZER_VERSION, tokenize
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")

NEVER_EMITTED = (PAD, BOS, UNK)
"""Tokens that decoding never chooses: a caption is words, then <eos>."""

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id: the special ones first, then by decreasing frequency, equally frequent ones alphabetically.

    `captions_digest` is the sha256 of the training captions' tokens, dataset by dataset.
    """

    tokens: tuple[str, ...]
    min_count: int
    tokenizer_version: str
    captions_digest: str

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Return the ids of tokens, UNK for unknown ones. Adds no BOS or EOS."""
        return [self._ids.get(token, UNK) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids up to the first EOS, without PAD and BOS."""
        tokens = []
        for token_id in ids:
            if token_id == EOS:
                break
            if token_id not in (PAD, BOS):
                tokens.append(self.tokens[token_id])
        return tokens

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that a model trained with this vocabulary relies on."""
        content = json.dumps([SCHEMA_VERSION, self.tokenizer_version, self.tokens], ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        # A caption that spells out "<unk>" or "<bos>" does not mean the special token.
        return {token: token_id for token_id, token in enumerate(self.tokens) if token_id >= len(SPECIAL_TOKENS)}


def build_vocabulary(*datasets: CaptionRecords, min_count: int) -> Vocabulary:
    """Return the tokens that occur at least `min_count` times in the training captions of all `datasets` together.

    Raises `InputError` if there are none.
    """
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    for caption in (text for captions in datasets for record in captions.of("train") for text in record.captions):
        tokens = tokenize(caption)
        counts.update(tokens)
        digest.update(" ".join(tokens).encode() + b"\n")
    frequent = sorted(
        (token for token, count in counts.items() if count >= min_count and token not in SPECIAL_TOKENS),
        key=lambda token: (-counts[token], token),
    )
    if not frequent:
        names = " and ".join(captions.name for captions in datasets)
        raise InputError(f"{names}: min_count: got {min_count}: no token occurs that often in the training captions")
    return Vocabulary((*SPECIAL_TOKENS, *frequent), min_count, TOKENIZER_VERSION, digest.hexdigest())


def write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    content = {
        "schema_version": SCHEMA_VERSION,
        "tokenizer_version": vocabulary.tokenizer_version,
        "min_count": vocabulary.min_count,
        "captions_digest": vocabulary.captions_digest,
        "digest": vocabulary.digest,
        "tokens": list(vocabulary.tokens),
    }
    write_json(path, content)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the vocabulary in `path`; raise `InputError` if it is damaged or of another tokenizer."""
    content = read_json(path)
    advice = "run build_vocabulary again"
    _require(isinstance(content, dict), path, f"expected a mapping; {advice}")
    version = content.get("schema_version")
    _require(version == SCHEMA_VERSION, path, f"schema_version: got {version!r}: expected {SCHEMA_VERSION}; {advice}")
    tokens: Any = content.get("tokens")
    valid = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    _require(valid and tuple(tokens[:4]) == SPECIAL_TOKENS, path, f"tokens: expected {SPECIAL_TOKENS} first; {advice}")
    _require(len(set(tokens)) == len(tokens), path, f"tokens: expected each token once; {advice}")
    for key, kind in (("min_count", int), ("tokenizer_version", str), ("captions_digest", str)):
        _require(type(content.get(key)) is kind, path, f"{key}: got {content.get(key)!r}: expected {kind.__name__}")
    tokenizer = content["tokenizer_version"]
    _require(
        tokenizer == TOKENIZER_VERSION,
        path,
        f"made with tokenizer {tokenizer!r}, but this is {TOKENIZER_VERSION!r}; {advice}",
    )
    vocabulary = Vocabulary(tuple(tokens), content["min_count"], tokenizer, content["captions_digest"])
    _require(vocabulary.digest == content.get("digest"), path, f"its tokens do not match its digest; {advice}")
    return vocabulary


def out_of_vocabulary_rates(vocabulary: Vocabulary, captions: CaptionRecords) -> dict[str, float]:
    """Return the share of each split's caption tokens that the vocabulary lacks, as `<split>/out_of_vocabulary`."""
    rates = {}
    for split in SPLITS:
        ids = [
            token_id
            for record in captions.of(split)
            for caption in record.captions
            for token_id in vocabulary.encode(tokenize(caption))
        ]
        rates[f"{split}/out_of_vocabulary"] = ids.count(UNK) / len(ids) if ids else 0.0
    return rates


def _require(condition: bool, path: Path, message: str) -> None:
    if not condition:
        raise InputError(f"{path}: {message}")
