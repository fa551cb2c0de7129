"""Closed classes of English: its function words, and what is a number."""

from __future__ import annotations

import re

_ARTICLES = "a an the"
_PRONOUNS = (
    "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves themself one oneself thou thee thy thine ye this that "
    "these those who whom whose which what whoever whomever whichever whatever someone somebody something anyone "
    "anybody anything everyone everybody everything nobody nothing none each other another"
)
_PREPOSITIONS = (
    "about above across after against along alongside amid amidst among amongst around as at atop before behind below "
    "beneath beside besides between beyond by concerning despite down during except excluding for from in including "
    "inside into like near of off on onto opposite out outside over past per regarding round since than through "
    "throughout till to toward towards under underneath unlike until up upon versus via vs with within without"
)
_CONJUNCTIONS = (
    "and but or nor so yet because although though while whilst whereas if unless lest once either neither both "
    "whether that provided albeit"
)
_VERBS = (  # auxiliaries and modals, and their contractions with and without what stands before the apostrophe
    "am is are was were be been being have has had having do does did doing done can could may might must shall should "
    "will would ought need dare cannot isn't aren't wasn't weren't haven't hasn't hadn't don't doesn't didn't can't "
    "couldn't mightn't mustn't shan't shouldn't won't wouldn't ain't n't 's 're 've 'll 'd 'm"
)
_ADVERBS = (  # of question, place, time and degree, as far as they are a closed class; particles
    "when where why how whenever wherever however whence whither wherein whereby here there then thus hence therefore "
    "herein thereof therein not no yes too also only just even very quite rather almost else ever never always often "
    "again still already now away back forth together instead otherwise"
)
_QUANTIFIERS = (
    "all any some every few fewer many much more most less least several enough half such same own little lot"
)
FUNCTION_WORDS = frozenset(
    " ".join((_ARTICLES, _PRONOUNS, _PREPOSITIONS, _CONJUNCTIONS, _VERBS, _ADVERBS, _QUANTIFIERS)).split()
)
_UNITS = "zero two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion dozen"
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth "
    "ninetieth hundredth thousandth millionth"
)
_MULTIPLES = "hundreds thousands millions billions dozens"
_NUMBERS = frozenset(" ".join(("one", _UNITS, _TEENS, _TENS, _ORDINALS, _MULTIPLES, "twice thrice")).split())
_NUMERAL = re.compile(r"[+-]?[\d.,:/%]*\d[\d.,:/%]*(?:st|nd|rd|th|s|k|x)?", re.IGNORECASE)
_ROMAN = re.compile(r"(?=[XVI]{2})X{0,3}(?:IX|IV|V?I{0,3})")  # longer ones are taken for abbreviations: CD, MIX


def is_function_word(word: str) -> bool:
    """Return whether an English word, in any case, is of a closed class: articles, pronouns, prepositions, ..."""
    return word.lower().replace("’", "'") in FUNCTION_WORDS


def is_number(word: str) -> bool:
    """Return whether a word is a number: in digits (2, 3.5, 1st, 90s), in English words, or Roman from II to XXXIX."""
    if _NUMERAL.fullmatch(word) or _ROMAN.fullmatch(word):
        return True
    return all(part in _NUMBERS for part in word.lower().split("-"))
