"""Tokenization of captions: Penn Treebank words in lower case without punctuation, as coco-caption scores them.

The vocabulary and the metrics use this tokenizer alone, since scores depend on the tokens. It reproduces coco-caption's
tokenizer (Stanford's `PTBTokenizer -lowerCase`, then a list of punctuation dropped), inferred from examples of its
output; the code is our own.
"""

from __future__ import annotations

import re
import string
from itertools import chain

TOKENIZER_VERSION = "ptb-1"
"""To be changed whenever any caption may get other tokens. Vocabularies store it."""

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""coco-caption's punctuation. Its list also has -LRB- and the like, which lower-case brackets never match."""

# Words that keep their full stop.
_ABBREVIATIONS = (
    "adj adm adv al ala apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co col "
    "colo comdr conn corp cos cpl ct dak dec dept det dr drs ens esq est etc ext feb fla fri ft ga gen gov hon inc ind "
    "insp intl jan jos jr jul jun kan kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms "
    "msgr mt mtg natl neb nev nov oct okla penn pfc ph plc pres prof pte pty pvt rd rep rev rt sen sep sept seq sfc "
    "sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo ph.d"
)
# The same, but only as names: "Wash. state", not "the wash."
_ABBREVIATED_NAMES = "ark az del ill la mass miss ore pa tex wash"
# The same, but only before a number: "no. 5".
_ABBREVIATIONS_OF_NUMBERED = "art ca fig figs no nos op pp prop"
# Words that begin a sentence after a single letter and a full stop: "plan b. The dog".
_SENTENCE_STARTS = (
    "A About After An As At But Cannot He Her Here If In It Last Many More Now Once One Other Our She Since So Some "
    "Such That The Their Then There These They This We What When While Yet You"
)
_SPLIT_WORDS = {"cannot": 3, "gonna": 3, "wanna": 3, "gotta": 3, "gimme": 3, "lemme": 3}
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_SPELLED = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "£": "#",
    "€": "$",
}
_CHARACTERS = str.maketrans(
    {
        "’": "'",
        "‘": "`",
        "‛": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "–": " -- ",
        "—": " -- ",
        "…": " ... ",
        **{sign: f" {fraction} " for sign, fraction in _FRACTIONS.items()},
        "\u00ad": None,  # soft hyphen
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff", " "),  # joiners and variants around emoji
    }
)

_L = r"[^\W\d_]"  # a letter
_W = r"[^\W_]"  # a letter or digit
_WORD = rf"{_W}+(?:[-_/]{_W}+)*"
_APOSTROPHE = r"(?:s|d|m|n|em|ll|re|ve)"
# At each position the longest match wins. All but the last group ignore case.
_PATTERNS = [
    re.compile(pattern, flags)
    for flags, patterns in (
        (
            re.IGNORECASE,
            [
                _WORD,
                rf"{_L}+(?:[.!?]{_L}+)+",  # fork.a, statefarm.com
                rf"{_WORD}\.(?=[,;:])",
                rf"{_L}\.(?:{_L}\.)*(?:-{_WORD})?",  # d.c., u.s.-based
                rf"(?:{_ABBREVIATIONS.replace(' ', '|')})\.(?:-{_WORD})?",
                r"[-+]?(?:\d+(?:[.,:]\d+)*|(?:[.,:]\d+)+)",
                rf"\d+(?:[.,]\d+)+(?:-{_W}+)+",  # 10,000-ton
                rf"(?:{_W}+-)*[dlno]'{_L}+",  # o'clock
                rf"{_L}+[aeiouy]'[aeiou]{_L}*",  # ma'am
                r"(?:c'mon|s'mores|e'er)(?!\w)",
                r"(?:ol|[dlj])'(?!\w)",
                rf"y'(?={_L})",
                rf"'{_APOSTROPHE}(?!{_W})",
                r"'n'(?!n)",
                rf"n't(?!{_W})",
                r"'t(?=is(?!\w)|was(?!\w))",
                r"(?<!\w)'(?:cause|til|till|[1-9]0s|\d\d)(?!\w)(?!')",
                rf"[#@]{_L}\w*",
                r"\w+(?:[.+-]\w+)*@[^\s\"<>|(){}.]+(?:\.\w+)*",
                r"(?:https?://|www(?:\.[\w-]+)+/)[^\s<>\"|()]*[^\s<>\"|.,;:!?(){}'-]",
                r"</?[a-z][^<>\s]*>",
                r"[:;=]-?[()\[{@|\\](?!\w)",
                r"\\\*",
                r"[!?]{2,}",
                r"\.\.+|--+|''|``",
                r"\*+|#+|_+|@@+|<<|>>",
                r"[cf]#|c\+\+",
                r"&(?:amp|lt|gt|quot|apos);",
            ],
        ),
        (0, [r"[A-Z]+(?:&[A-Z]+)+", r"[:;=]-?[DP](?!\w)", rf"(?:{_ABBREVIATED_NAMES.title().replace(' ', '|')})\."]),
    )
    for pattern in patterns
]
_PLAIN = re.compile(_WORD)
_WITH_FULL_STOP = frozenset(
    [*string.ascii_lowercase, *_ABBREVIATIONS.split(), *_ABBREVIATED_NAMES.split(), *_ABBREVIATIONS_OF_NUMBERED.split()]
)
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'"}
_NEGATION = re.compile(rf"(?<={_L})(n't)(?!{_W})", re.IGNORECASE)
_INITIAL = re.compile(rf"(?:^|.*[^\w.]){_L}\.", re.DOTALL)
_NUMBERED = re.compile(rf"(?:{_ABBREVIATIONS_OF_NUMBERED.replace(' ', '|')})\.", re.IGNORECASE)
_MAX_CHUNKS = 1 << 17  # in each cache


def tokenize(text: str) -> list[str]:
    """Return the tokens of one caption, in lower case, without punctuation; none if it has nothing else.

    As in coco-caption, brackets become "-lrb-" and so on, contractions are split ("do", "n't"), and characters outside
    the Basic Multilingual Plane (most emoji) are dropped. Any white space separates, also "\\r" and "\\u2028". Two
    things differ on purpose: no token contains white space (coco-caption's "1 1/2" is one token with a no-break space),
    and adjacent curly quotes are dropped like straight ones.
    """
    chunks = text.split()
    if not chunks:
        return []
    last_chunk = chunks.pop()
    try:
        tokens = list(chain.from_iterable(map(_CHUNKS.__getitem__, chunks)))
    except KeyError:
        tokens = []
        for chunk, following in zip(chunks, [*chunks[1:], last_chunk], strict=True):
            tokens += _tokens_before_next(chunk, following) if chunk.endswith(".") else _CHUNKS[chunk]
    tokens += _LAST_CHUNKS[last_chunk]
    return tokens


def clear_cache() -> None:
    """Empty the cache of chunks, for benchmarks."""
    _CHUNKS.clear()
    _LAST_CHUNKS.clear()


class _Chunks(dict[str, tuple[str, ...]]):
    """A cache of the tokens of chunks within a caption; `KeyError` if they depend on the chunk that follows."""

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        if chunk.endswith("."):
            raise KeyError(chunk)
        return self._store(chunk, _tokens_of(chunk))

    def _store(self, chunk: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
        if len(self) < _MAX_CHUNKS:
            self[chunk] = tokens
        return tokens


class _LastChunks(_Chunks):
    """A cache of the tokens of chunks at the end of a caption."""

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        return self._store(chunk, _tokens_before_next(chunk, "") if chunk.endswith(".") else _tokens_of(chunk))


_CHUNKS, _LAST_CHUNKS = _Chunks(), _LastChunks()


def _tokens_before_next(chunk: str, following: str) -> tuple[str, ...]:
    """Return the tokens of a chunk whose final full stop depends on the chunk that follows."""
    tokens = _tokens_of(chunk)
    if (not following or following in _SENTENCE_STARTS.split()) and _INITIAL.fullmatch(chunk):
        return (*tokens[:-1], tokens[-1].rstrip("."))
    if following[:1].isdigit() and _NUMBERED.fullmatch(chunk):
        return (chunk.lower(),)
    return tokens


def _tokens_of(chunk: str) -> tuple[str, ...]:
    """Return the tokens of a chunk: the text between two white spaces."""
    if chunk.isascii():  # fast path for nearly all: a word, maybe with a punctuation mark or a possessive after it
        word = chunk.rstrip(",;:!?") if chunk[-2:-1].isalpha() else chunk
        if word[-1:] == "." and word[-2:-1].isalpha() and word[:-1].lower() not in _WITH_FULL_STOP:
            word = word[:-1]
        if word.isalpha() or _PLAIN.fullmatch(word):
            return _spelled(word.lower())
        if word[-2:] in ("'s", "'S") and len(word) > 3 and word[:-2].isalpha():
            return (*_spelled(word[:-2].lower()), "'s")
    text = chunk.translate(_CHARACTERS)
    text = _NEGATION.sub(" \\1", text)
    tokens: list[str] = []
    position = 0
    while position < len(text):
        end = max((m.end() for p in _PATTERNS if (m := p.match(text, position))), default=position + 1)
        token = text[position:end].lower()
        position = end
        tokens += _spelled(token)
    return tuple(token for token in tokens if token not in DROPPED)


def _spelled(token: str) -> tuple[str, ...]:
    """Return the tokens of a matched piece: brackets and entities spelled out, punctuation runs dropped."""
    cut = _SPLIT_WORDS.get(token)
    if cut is not None:
        return token[:cut], token[cut:]
    if len(token) == 1:
        if token.isspace() or token == '"' or ord(token) > 0xFFFF or not token.isprintable():
            return ()
        return (_SPELLED.get(token, token),)
    if set(token) <= {"."} or set(token) <= {"-"}:
        return ()
    token = _ENTITIES.get(token, token)
    if token[0] in ":;=(":
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    return (token,)
