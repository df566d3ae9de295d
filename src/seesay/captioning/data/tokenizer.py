"""Tokenization of captions: Penn Treebank words in lower case without punctuation, as coco-caption scores them.

The vocabulary and the metrics use this tokenizer alone, since scores depend on the tokens. It reproduces coco-caption's
tokenizer (Stanford's `PTBTokenizer -lowerCase`, then a list of punctuation dropped), inferred from examples of its
output; the code is our own. docs/captions.md lists where it differs.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from itertools import chain

TOKENIZER_VERSION = "ptb-2"
"""To be changed whenever any caption may get other tokens. Vocabularies store it."""

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""coco-caption's punctuation. Its list also has -LRB- and the like, which lower-case brackets never match."""

# Words that keep their full stop.
_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co "
    "col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov "
    "govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo "
    "mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof profs pte ptes pty "
    "ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue "
    "tues univ va vs vt wed wis wisc wm wyo"
)
# The same, but only as names: "Wash. state", not "the wash."
_ABBREVIATED_NAMES = "ark az del ill la mass miss ore pa tex wash"
# The same, but only before a number: "no. 5", "No.1".
_ABBREVIATIONS_OF_NUMBERED = "art ca fig figs no nos op p pp prop"
# Words that begin a sentence after a single letter and a full stop: "plan b. The dog".
_SENTENCE_STARTS = (
    "A About After An As At But He Her Here However If In It Last Many More Mr. Now Once One Other Our She "
    "Since So Some Such That The Their Then There These They This We What When While Yet You"
)
_SPLIT_WORDS = {"cannot": 3, "gonna": 3, "wanna": 3, "gotta": 3, "gimme": 3, "lemme": 3}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_SPELLED = {**_BRACKETS, **_FRACTIONS, "£": "#", "¢": "cents", **dict.fromkeys("€¤₠\x80", "$")}
_QUOTES = {
    **dict.fromkeys("“«\x93", "``"),
    **dict.fromkeys("”»\x94", "''"),
    **dict.fromkeys("‘‹‛\x91", "`"),
    **dict.fromkeys("’›\x92", "'"),
}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
_SILENT_ENTITIES = frozenset(["&quot;", "&apos;", "&nbsp;", "&ndash;", "&mdash;"])

# Ranges of code points beyond ASCII. Marks are parts of words (accents, vowel signs); symbols are tokens of their own.
# Other letters and digits are letters and digits; everything else is dropped.
_MARKS = (
    "2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 615-61a "
    "64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e 951-955 962-963 "
    "981-983 9bc 9be-9cd 9d7 9e2-9e3 a01-a03 a3c-a4f a81-a83 abc abe-acf b82 bbe-bcd c01-c03 c3e-c56 d3e-d48 e31 "
    "e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd"
)
_SYMBOLS = (
    "a1 a5-a9 ac ae-b4 b6-b9 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 606-60c 61b 61e-61f 66a 66d 6d4 700-70d "
    "7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 2070 2074-207e 2080-208e 20a4 "
    "2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b 2140-2144 214a-214d 214f "
    "2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6"
)
_JOIN = "\0"  # stands for white space within a token
# Patterns match kinds of characters, one character for each: é is a letter that is not ASCII, ٣ such a digit, ³ a mark,
# ☺ a symbol, space what is dropped. Here the first character of each group stands for all of it.
_KINDS_OF_SIGNS = (
    *("’\x92", "‘‛\x91", "“‹›”«»„‚‟\x93\x94", "–—―\x96\x97", "…", "½¼¾⅓⅔", "€¤₠\x80", "¢", "£", "‐‑֊", "⁄", "٫٬"),
    "é\u1885\u1886",
)
_SILENT_KINDS = frozenset(" \0\"'’‘`–…‐٫")

_L = "[A-Za-zé]"
_W = r"[A-Za-zé\d]"
_LETTERS = r"(?:[A-Za-zé³]|&[aeiou](?:acute|grave|uml);)"
_WORD = rf"(?:{_W}+(?:[-_‐]{_W}+)+|{_LETTERS}(?:{_LETTERS}|\d)*|{_W}+)"
_DOMAIN = rf"{_LETTERS}(?:{_LETTERS}|\d)*(?:[.!?]{_LETTERS}(?:{_LETTERS}|\d)*)+"
_A = "(?:['’]|&apos;)"
_SUFFIX = r"(?:(?:'|&apos;)(?:s|d|m|em|ll|re|ve)(?![A-Za-z])|’(?:s|d|m|em|ll|re|ve))"
_SUFFIXED = re.compile(rf"{_SUFFIX}|n['’]t", re.IGNORECASE)
_STARTS = "|".join([*_SENTENCE_STARTS.split(), *_SENTENCE_STARTS.upper().split()]).replace(".", "[.]")
_EYES = "[-^x=~<>']"
_URL = r"[^\s\"<>|()\0]+[^\s\"<>|.!?(){},\0-]"
_ATTRIBUTE = rf"{_JOIN}+[A-Za-z][\w.:-]*(?:{_JOIN}*={_JOIN}*(?:\"[^<>\"]*\"|'[^<>']*'))?"
_TAG = (
    rf"(?:<!?[A-Za-z][\w.:-]*(?:{_ATTRIBUTE})*{_JOIN}*/?{_JOIN}*>|</[A-Za-z][\w.:-]*{_JOIN}*>|<!--[^>]*-->|<\?[^>]+>)"
)
# At each position the longest match wins; where a pattern has a group, the token is the group.
_PATTERNS = [
    re.compile(pattern, flags)
    for flags, patterns in (
        (
            re.IGNORECASE,
            [
                _WORD,
                r"[a-z\d]+(?:[-_][a-z\d]*[a-z][a-z\d]*|\\?/[a-z\d]+)*",  # and/or
                rf"{_W}+(?:[.,]{_W}+)*(?:-{_W}+)+",  # 10,000-ton
                rf"{_DOMAIN}|[a-z\d]+\.(?:txt|html?|jpe?g|png|gif|pdf|doc|php|zip)",  # fork.a, statefarm.com
                rf"(?:{_DOMAIN}|{_WORD})\.(?=[,;:])",
                rf"[a-z](?-i:\.(?!\s+(?:{_STARTS}|{_TAG})(?:\s|$)))",  # b.
                rf"[a-z](?:\.[a-z])+\.(?:-{_WORD})?|[a-z]\.-{_WORD}",  # d.c., u.s.-based
                rf"(?:ph\.d|{_ABBREVIATIONS.replace(' ', '|')})\.(?:-{_WORD})?",
                rf"(?:{_ABBREVIATIONS_OF_NUMBERED.replace(' ', '|')})\.(?:(?=\s*\d)|-{_WORD})",
                r"[-+]?(?:\d+(?:[.,:٫]\d+)*|(?:[.,:]\d+)+)",
                rf"\d+⁄\d+|\d+(?:-|{_JOIN}+)\d+(?:\\?/|⁄)\d+",  # 1 1/2
                rf"(?:{_W}+-)*[dlno](?:{_A}|‘){_L}{{2}}{_W}*(?:-{_W}+)*",  # o'clock
                rf"{_L}+[aeiouy]{_A}[aeiou]{_L}*",  # ma'am
                rf"c{_A}est|c'mon|s{_A}mores|e{_A}er",
                rf"(?:ol|[dlj])(?!{_SUFFIX}){_A}|y{_A}(?={_L})",
                _SUFFIX,
                rf"{_A}n{_A}|'n(?=\s|$)|’n",
                r"([a-z]+)n['’`‘]t",  # do, before n't
                r"n['’`‘]t",
                r"'t(?=is|was)",
                rf"{_A}(?:cause|till?|em|[1-9]0s|\d\d(?=[\s\0]|$))",
                rf"#{_LETTERS}+|@[a-z_][a-z\d_]*",
                r"<?[a-z\d][^\s\"<>|(){}\0]*@(?:[^\s\"<>|(){}.\0]+\.)*[^\s\"<>|(){}.\0]+>?",
                rf"https?://{_URL}|www\.(?:[^\s\"<>|.!?(){{}},\0]+\.)+[a-z]{{2,4}}(?:/{_URL})?",
                _TAG,
                rf"[<>]?[:;=][-o*']?[()DP@\[\]{{|\\](?!{_W})|{_EYES}_{_EYES}|\({_EYES}[-._]?{_EYES}\)",
                r"-[lr][rsc]b-",
                rf"\(\d{{3}}\){_JOIN}*\d{{3}}[-{_JOIN}]\d{{4}}",
                r"\\\*|[!?]{2,}|\.{3,}|--+|''|``|\*+|#+|_+|@@+|<<|>>|[“‘’][`“‘’]?|`[“‘’]|[cf]#|c\+\+",
                r"&(?:amp|lt|gt|quot|apos|nbsp|ndash|mdash|#\d+);",
            ],
        ),
        (
            0,
            [
                r"[A-Z]+(?:(?:[&+]|&amp;)[A-Z]+)+",
                rf"(?:{_W}+-)*[A-Z](?:{_A}|‘){_L}{{2}}{_W}*(?:-{_W}+)*",  # J'ai
                r"[A-Z]{1,3}\$",
                r"[<>]?[:;=][-o*']?O(?![A-Za-zé\d])",
                rf"(?:[^\s\"`'<>|.!?(){{}},0-9A-Z$/:;=@\[\]\\^_\0-]+\.)+(?:com|net|org|edu)(?:/{_URL})?",
                rf"(?:{'|'.join([*_ABBREVIATED_NAMES.title().split(), *_ABBREVIATED_NAMES.upper().split()])})\.",
            ],
        ),
    )
    for pattern in patterns
]
_WITH_FULL_STOP = frozenset(
    [*string.ascii_lowercase, *_ABBREVIATIONS.split(), *_ABBREVIATED_NAMES.split(), *_ABBREVIATIONS_OF_NUMBERED.split()]
)
_SPAN = re.compile(r"<[/!]?[A-Za-z][^<>]*>|<!--[^>]*-->|<\?[^>]+>|\(\d{3}\)\s?\d{3}[\s-]\d{4}|\d\s+\d+(?:\\?/|⁄)\d")
_MAX_CHUNKS = 1 << 17  # in each cache


def tokenize_references(references: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Return the tokens of all references of each image, read in this order as `tokenize_all` reads captions."""
    tokens = iter(tokenize_all([caption for of_image in references for caption in of_image]))
    return [[next(tokens) for _ in of_image] for of_image in references]


def tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    """Return the tokens of captions in a file's order, since coco-caption reads the file as one text.

    "plan b." loses its full stop where the next caption begins with a word such as "A" or "The".
    """
    found: list[list[str]] = []
    following = ""
    for caption in reversed(captions):
        found.append(tokenize(caption, following))
        if caption and not caption.isspace():
            following = caption
    return found[::-1]


def tokenize(text: str, following: str = "") -> list[str]:
    """Return the tokens of one caption, in lower case, without punctuation; none if it has nothing else.

    `following` is the caption that comes next in the file (`tokenize_all`). As in coco-caption, brackets become "-lrb-"
    and so on, contractions are split ("do", "n't"), and characters outside the Basic Multilingual Plane (most emoji)
    are dropped. Any white space separates, also "\\r" and "\\u2028", and no token contains any.
    """
    chunks = text.split()
    if not chunks:
        return []
    last_chunk = chunks.pop()
    try:
        tokens = list(chain.from_iterable(map(_CHUNKS.__getitem__, chunks)))
        tokens += _LAST_CHUNKS[last_chunk]
    except KeyError:
        chunks = _chunks(text)
        after = [*chunks[1:], *(_chunks(following)[:1] or [""])]
        tokens = list(chain.from_iterable(map(_tokens_before, chunks, after)))
    return tokens


def clear_cache() -> None:
    """Empty the cache of chunks, for benchmarks."""
    _CHUNKS.clear()
    _LAST_CHUNKS.clear()


class _Chunks(dict[str, tuple[str, ...]]):
    """A cache of the tokens of chunks; `KeyError` if they depend on the chunks around them."""

    def __init__(self, depends: re.Pattern[str]) -> None:
        self._depends = depends

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        if self._depends.search(chunk):
            raise KeyError(chunk)
        tokens = _tokens_of(chunk, "")
        if len(self) < _MAX_CHUNKS:
            self[chunk] = tokens
        return tokens


def _tokens_of(chunk: str, following: str) -> tuple[str, ...]:
    """Return the tokens of a chunk, the text between two white spaces, before the chunk `following`."""
    if chunk.isascii():  # fast path for nearly all: a word, maybe with a punctuation mark or a possessive after it
        word = chunk.rstrip(",;:!?") if chunk[-2:-1].isalpha() else chunk
        if word[-1:] == "." and word[-2:-1].isalpha() and word[:-1].lower() not in _WITH_FULL_STOP:
            word = word[:-1]
        if word.isalpha():
            return _split(word.lower())
        if word[-2:] in ("'s", "'S") and len(word) > 3 and word[:-2].isalpha():
            return word[:-2].lower(), "'s"
    chunk = chunk.replace("\u00ad", "")
    kinds, length = f"{chunk} {following}".translate(_KINDS), len(chunk)
    tokens: list[str] = []
    position = 0
    while position < length:
        matches = (match for pattern in _PATTERNS if (match := pattern.match(kinds, position)))
        longest = max(matches, key=re.Match.end, default=None)
        end = position + 1 if longest is None else longest.end(longest.lastindex or 0)
        tokens += _spelled(chunk[position:end].lower(), kinds, position)
        position = end
    return tuple(token for token in tokens if token not in DROPPED)


def _chunks(text: str) -> list[str]:
    """Return what white space separates, but for that within a tag, a telephone number or "1 1/2"."""
    return _SPAN.sub(lambda span: _JOIN.join(span[0].split()), text).split()


def _tokens_before(chunk: str, following: str) -> tuple[str, ...]:
    try:
        return _CHUNKS[chunk]
    except KeyError:
        return _tokens_of(chunk, following)


def _split(word: str) -> tuple[str, ...]:
    cut = _SPLIT_WORDS.get(word)
    return (word,) if cut is None else (word[:cut], word[cut:])


def _spelled(token: str, kinds: str, start: int) -> tuple[str, ...]:
    """Return the tokens of a matched piece, which begins at `start` of `kinds`."""
    end, first = start + len(token), kinds[start]
    if token in _SPLIT_WORDS:
        return (token,) if _SUFFIXED.match(kinds, end) else _split(token)
    if first in "`“‘’" and not token[-1].isalnum():
        return ("".join(_QUOTES.get(quote, quote) for quote in token),)
    if len(token) == 1:
        return () if first in _SILENT_KINDS else (_SPELLED.get(token, token),)
    if token in _SILENT_ENTITIES or set(token) == {"."} or token in ("---", "----"):
        return ()
    if _SUFFIXED.fullmatch(kinds, start, end):
        return ("n't" if token[0] == "n" else "'" + token.replace("&apos;", "'")[1:],)
    if first in "<>:;=(":
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    token = _ENTITIES.get(token, token[0] + token[1:].replace("&amp;", "&"))
    return tuple(token.split(_JOIN))


class _Kinds(dict[int, str]):
    """The kind of each character by code point, for `str.translate`; printable ASCII is its own kind."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 0x80:
            kind = character if character.isprintable() or character == _JOIN else " "
        elif code > 0xFFFF:
            kind = " "
        else:
            category = unicodedata.category(character)
            kind = "é" if category.startswith("L") else "٣" if category == "Nd" else " "
        self[code] = kind
        return kind


def _code_points(ranges: str) -> list[int]:
    return [n for ends in ranges.split() for n in range(int(ends.split("-")[0], 16), int(ends.split("-")[-1], 16) + 1)]


_KINDS = _Kinds()
_KINDS.update(dict.fromkeys(_code_points(_MARKS), "³") | dict.fromkeys(_code_points(_SYMBOLS), "☺"))
for _group in _KINDS_OF_SIGNS:
    _KINDS.update(dict.fromkeys(map(ord, _group), _group[0]))
_CHUNKS = _Chunks(re.compile(r"\.$|[<>]|\d\)?$"))
_LAST_CHUNKS = _Chunks(
    re.compile(rf"(?:^|[^A-Za-z])[A-Za-z]\.$|(?:{_ABBREVIATIONS_OF_NUMBERED.replace(' ', '|')})\.$|[<>]|^\d", re.I)
)
