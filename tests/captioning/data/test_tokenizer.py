"""How captions become tokens. Expected values are what coco-caption's tokenizer gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesay.captioning.data.tokenizer import DROPPED, clear_cache, tokenize


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man can't go.", "a man ca n't go"),
        ("a cannot gonna wanna", "a can not gon na wan na"),
        ("It's the dogs' ball; he's John's.", "it 's the dogs ball he 's john 's"),
        ("I'm you're we've he'd she'll couldn't've", "i 'm you 're we 've he 'd she 'll could n't 've"),
        ("don’t ‘hello’ “hi” it’s", "do n't hello hi it 's"),
        ('"peace" and "b."', "peace and b."),
        ("rock 'n' roll, o'clock, ma'am, y'all, 'tis", "rock 'n' roll o'clock ma'am y' all 't is"),
        ("a T-shirt, black-and-white; -cat walkie-", "a t-shirt black-and-white cat walkie"),
        ("beach--kite a--b a - b", "beach kite a b a b"),
        ("skating/skiing and/or w/", "skating/skiing and/or w /"),
        ("5:50 3:00. 1,000 1960's '70s 2.5 1/2 10:30am", "5:50 3:00 1,000 1960 's '70s 2.5 1/2 10:30 am"),
        ("$5.00 50% #1 6' 6\" 5'10\"", "$ 5.00 50 % # 1 6 6 5 10"),
        ("m&ms AT&T a & b &amp; c", "m & ms at&t a & b & c"),
        ("St. Paul vs. Dr. Who no. 5 no. six", "st. paul vs. dr. who no. 5 no six"),
        ("a p.o.v. from d.c. in the U.S.", "a p.o.v. from d.c. in the u.s."),
        ("plan b. The dog, w. 4th st", "plan b the dog w. 4th st"),
        ("statefarm.com signal.street chair,couch", "statefarm.com signal.street chair couch"),
        ("(top) [left] {x}", "-lrb- top -rrb- -lsb- left -rsb- -lcb- x -rcb-"),
        ("what?! hello!! no! yes? ...", "what ?! hello !! no yes"),
        ("a ||| b", "a | | | b"),
        ("café ☺ 90° 東京", "café ☺ 90 ° 東京"),
        ("a dog \U0001f436 ☺️ runs", "a dog ☺ runs"),
        ("½ £5 :) ;)", "1/2 # 5 :-rrb- ;-rrb-"),
        ("can't_stop won't", "ca n't _ stop wo n't"),
        ("@@home see www.example.org/a-b for more", "@@ home see www.example.org/a-b for more"),
        ("the 3-year-old's toy, a 10-foot tall, 5'10\" man", "the 3-year-old 's toy a 10-foot tall 5 10 man"),
        ("e.g. a dog i.e. an animal etc. here at 5 p.m. today", "e.g. a dog i.e. an animal etc. here at 5 p.m. today"),
        ("rock'n'roll twas 'twas", "rock 'n' roll twas 't was"),
        ("a dog—running—fast", "a dog running fast"),
        ("c++ and c# code", "c++ and c# code"),
        ("a_b __c__ ~ * ^ = + < >", "a_b __ c __ ~ * ^ = + < >"),
        ("user@mail.com wrote", "user@mail.com wrote"),
        ("a <b> dog [on] {grass} (here)", "a <b> dog -lsb- on -rsb- -lcb- grass -rcb- -lrb- here -rrb-"),
        ("a ||| dog|||runs", "a | | | dog | | | runs"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "family"),
        ("ITS Man's CAN'T ZOO's", "its man 's ca n't zoo 's"),
        ("", ""),
        (" . , ! ", ""),
    ],
)
def test_tokens_are_coco_captions(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize("space", ["\r", "\n", "\r\n", "\u2028", "\u2029", "\x0c", "\x85", "\t", "\xa0", "\u200b"])
def test_any_white_space_separates_tokens_and_nothing_else_happens(space: str) -> None:
    assert tokenize(f"a dog{space}runs") == ["a", "dog", "runs"]


@given(st.text(max_size=40))
def test_tokens_hold_no_space_no_capital_and_no_dropped_punctuation(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert token.split() == [token]
        assert token == token.lower()
        assert token not in DROPPED


@given(st.lists(st.sampled_from(["a", "dog", "runs", "in", "grass", "t-shirt", "o'clock", "1960", "2.5"]), max_size=12))
def test_plain_tokens_are_kept_as_they_are(tokens: list[str]) -> None:
    assert tokenize(" ".join(tokens)) == tokens
    assert tokenize(" ".join(tokens).upper() + " .") == tokens


WORDS = st.sampled_from(
    ["a", "dog", "Man's", "gonna", "St.", "b.", "U.S.", "no.", "5", "grass,", "T-shirt!", "(top)", "can't", "..."]
)


@given(st.lists(WORDS, max_size=8))
def test_what_was_seen_before_changes_nothing(chunks: list[str]) -> None:
    text = " ".join(chunks)
    warm = tokenize(text)
    clear_cache()
    assert tokenize(text) == warm == tokenize(text)


def test_a_full_stop_is_judged_by_what_follows_it() -> None:
    assert tokenize("plan b. The dog") == ["plan", "b", "the", "dog"]
    assert tokenize("plan b. a dog") == ["plan", "b.", "a", "dog"]
    assert tokenize("no. 5 no. no.") == ["no.", "5", "no", "no"]
