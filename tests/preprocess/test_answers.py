import json
import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recbole_gserec.preprocess.answers import FAILED, STATUSES, USABLE, ends_in_reasoning, json_summary, read_answer
from recbole_gserec.preprocess.summarizers.base import Completion

THINKING = 'Perhaps {"summary": "a draft"}?'
ANSWER = '{"summary": "likes war films"}'


def read(text, use_plain=True, **completion):
    summary = read_answer(Completion(text, **completion)).require_json_unless(use_plain)
    return summary.status, summary.text


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"\n  {ANSWER}\n",
        f"```json\n{ANSWER}\n```",
        f"Here it is:\n```\n{ANSWER}\n```\nAnything else?",
        f"The user {{an adult}} is described by {ANSWER} {{and nothing else}}.",
        '{\n  "summary" :\t"likes war films"\n}',
        '{"user": "a", "summary": " likes war films\\n", "age": 3}',
        f'{{"answer": {ANSWER}, "certain": true}}',
        f"[{ANSWER}]",
        f'{{"summary": oops}} {ANSWER}',
        f'{{"records": 3}} {ANSWER} {{"summary": "another"}}',
        f'{ANSWER} {{"summary": "cut o',
    ],
)
def test_json_is_found_wherever_it_stands(text):
    assert read(text) == ("json", "likes war films")
    assert read(text, use_plain=False) == ("json", "likes war films")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"two\nlines\tand a tab"', "two\nlines\tand a tab"),
        ('"say \\"hi\\" {x}"', 'say "hi" {x}'),
        ('"\\u978b\\u5b50 \\ud83d\\ude00"', "\u978b\u5b50 \U0001f600"),
        ('["war", " ", "drama", ["horror", null]]', "war; drama; horror"),
        ('{"topics": ["war", "drama"], "style": "slow", "none": ""}', "topics: war; drama; style: slow"),
        ("3", "3"),
        ("0", "0"),
        ("2.5", "2.5"),
        ("true", "True"),
    ],
)
def test_values_become_text(value, text):
    assert read(f'{{"summary": {value}}}') == ("json", text)


@pytest.mark.parametrize("value", ['""', '" \\n"', "null", "[]", "{}", '["", null]', '{"topics": []}'])
@pytest.mark.parametrize("use_plain", [True, False])
def test_a_summary_without_text_is_empty(value, use_plain):
    text = f'{{"summary": {value}}}'
    assert read(text, use_plain) == ("empty", text)


@pytest.mark.parametrize("text", ["", "  \n\t", "<think>hm</think>", "<think>hm</think>\n\n"])
def test_an_answer_without_text_is_empty(text):
    assert read(text) == ("empty", text.strip())


@pytest.mark.parametrize("text", ["Likes war films.", '{"summry": "war"}', '{"summary": "war', "{", '"summary": "war"'])
def test_a_whole_answer_without_json_is_used_or_fails(text):
    assert read(f" {text}\n") == ("text", text)
    assert read(f" {text}\n", use_plain=False) == ("not_json", text)


@pytest.mark.parametrize(
    "text", ['{"summary": "likes war fi', "Likes war fi", '```json\n{"summary"', "", '{"summary": ""}']
)
def test_an_answer_that_was_cut_off_fails(text):
    assert read(text, is_whole=False) == ("truncated", text)


@pytest.mark.parametrize("rest", ["", "\n```", " I chose these words bec", ' {"summary": "anoth'])
def test_nothing_is_lost_where_the_cut_is_behind_the_object(rest):
    assert read(ANSWER + rest, is_whole=False) == ("json", "likes war films")


@pytest.mark.parametrize(
    ("text", "opens_in_reasoning"),
    [
        (f"<think>{THINKING}</think>{ANSWER}", False),
        (f"<think>\n{THINKING}\n</think>\n\n{ANSWER}", False),
        (f"{THINKING}</think>{ANSWER}", True),
        (f"<think>{THINKING}</think>{ANSWER}", True),
        # The template opened the block, and nobody says so.
        (f"{THINKING}</think>{ANSWER}", False),
        (f"<think>{THINKING}</think>So:<think>{THINKING}</think>{ANSWER}", False),
    ],
)
def test_reasoning_is_taken_out(text, opens_in_reasoning):
    assert read(text, opens_in_reasoning=opens_in_reasoning) == ("json", "likes war films")


def test_reasoning_is_not_part_of_a_plain_answer():
    assert read("<think>They like war.</think>\nLikes war films.") == ("text", "Likes war films.")


MARKS = {
    "think": ("<think>", "</think>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "reason": ("<reason>", "</reason>"),
    "analysis": ("<analysis>", "</analysis>"),
    "reflection": ("<reflection>", "</reflection>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "with a prefix": ("<seed:think>", "</seed:think>"),
    "attributes": ('<think type="deep" steps=3>', "</think>"),
    "spaces": ("< think >", "</ think >"),
    "brackets": ("[THINK]", "[/THINK]"),
    "triangles": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "special tokens": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "wide bars": ("<\uff5cthink\uff5c>", "<\uff5c/think\uff5c>"),
    "thinking and response": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "a channel": ("<|channel>thought\n", "<channel|>"),
    "channels": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "channels without messages": ("<|channel|>analysis", "<|channel|>final"),
    "channels with a format": (
        "<|channel|>commentary to=user<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    ),
    "a process": ("<thought_process>", "</thought_process>"),
    "steps": ("<reasoning_steps>", "</reasoning_steps>"),
    "a pace": ("<think_fast>", "</think_fast>"),
    "internal": ("<internal>", "</internal>"),
    "deliberation": ("<deliberation>", "</deliberation>"),
    "plan": ("<plan>", "</plan>"),
    "start and end": ("<start_of_thinking>", "<end_of_thinking>"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "bare channels": ("analysis", "assistantfinal"),
    "bare channels of the assistant": ("assistantanalysis", "assistantfinal"),
}
forms = pytest.mark.parametrize("form", MARKS)


@forms
@pytest.mark.parametrize("change", [str, str.upper, str.title], ids=["as is", "upper", "title"])
def test_reasoning_is_taken_out_whatever_its_marks(form, change):
    start, end = MARKS[form] if form.startswith("bare") else map(change, MARKS[form])
    assert read(f"{start}{THINKING}{end}{ANSWER}") == ("json", "likes war films")
    assert read(f" \n{start}\n{THINKING}\n{end}\n\n```json\n{ANSWER}\n```") == ("json", "likes war films")
    assert read(f"{start}They like war.{end}Likes war films.") == ("text", "Likes war films.")
    assert read(f"{start}hm{end}") == ("empty", f"{start}hm{end}")
    if not form.startswith("bare"):
        assert read(f"{start}{THINKING}", is_whole=False)[0] == "reasoning"
        assert read(f"{THINKING}{end}{ANSWER}", opens_in_reasoning=True) == ("json", "likes war films")
        assert read(f"{THINKING}{end}{ANSWER}") == ("json", "likes war films")
        assert ends_in_reasoning(f"user: hello\nassistant: {start}\n") and not ends_in_reasoning(start + end)


@forms
def test_marks_within_the_answer_are_its_text(form):
    for mark in MARKS[form]:
        for before in ("", "<think>a</think>", f"{THINKING}</think>", "So: "):
            assert read(before + json.dumps({"summary": f"asks what {mark} means"})) == (
                "json",
                f"asks what {mark} means",
            )


@pytest.mark.parametrize(
    "text",
    [
        f"<think>a <think>b</think> {THINKING}</think>{ANSWER}",
        f"<think>The mark <think> opens it. {THINKING}</think>{ANSWER}",
        f"<think>a</think>So: <thinking>{THINKING}</thinking>{ANSWER}",
        f"<think>{THINKING}</thinking> b</think>{ANSWER}",
        f"<thinking>{THINKING}</think>{ANSWER}",
        f'<think>{{"summary": "a draft</think>{ANSWER}',
        f'<think>{{"a": ["b", </think>{ANSWER}',
        f'<think>{{"note": "</think>"}} {THINKING}</think>{ANSWER}',
        f"{ANSWER}<think>Is it right? {THINKING}</think>",
        f"{ANSWER}\n<think>Is it right? {THINKING}",
        f'{{"summary": "first"}}<think>no</think>{ANSWER}',
        f"<think/>{ANSWER}",
        f"<|channel|>final<|message|>{ANSWER}<|return|>",
    ],
)
def test_nested_and_mixed_marks(text):
    assert read(text) == ("json", "likes war films")


@pytest.mark.parametrize(
    "text",
    [
        f'{{"summary": "first"}} Better: {ANSWER}',
        f'{{"summary": "first"}}<br>{ANSWER}',
        f'```json\n{{"summary": "first"}}\n```\n```json\n{ANSWER}\n```',
        f'{{"summary": "first"}} or {{"summary": "second"}} or {{"answer": {ANSWER}}}',
        f'{ANSWER} That is all: {{"summary": ""}}, {{"summary": "<text>"}}',
        f'{ANSWER}, {{"summary": "second"}}',
        f'[{ANSWER}, {{"summary": "second"}}]',
        f'{{"answers": [{ANSWER}, {{"note": "between", "summary": "second"}}]}}',
    ],
)
def test_of_several_objects_the_one_that_the_others_lead_to_counts(text):
    assert read(text) == ("json", "likes war films")


@pytest.mark.parametrize("before", ["", "<think>a</think>", f"{THINKING}</think>"])
@pytest.mark.parametrize("after", ["</think>", "\n</think>\n", "\n```</think><|im_end|>"])
def test_an_end_of_reasoning_behind_the_answer_hides_nothing(before, after):
    assert read(before + ANSWER + after) == ("json", "likes war films")
    assert read(f"<think>{ANSWER}{after}")[0] == "empty"
    assert read(ANSWER + after, opens_in_reasoning=True)[0] == "empty"


@pytest.mark.parametrize("before", ["<think>a</think>", "a</think>", "<think>a <think>b</think> c</think>\n"])
@pytest.mark.parametrize(
    "text",
    [
        "The user searches for </think> tags",
        "The user searches for <think> tags",
        "The user searches for <think> and </think> tags",
        'The user searches for "</think>" and (<analysis>), and more.',
    ],
)
def test_marks_that_a_plain_answer_mentions_are_its_text(before, text):
    assert read(before + text) == ("text", text)


def test_a_mark_that_is_never_closed_is_text_in_the_middle_of_a_sentence():
    assert read("The user reads <analysis> of chess") == ("text", "The user reads <analysis> of chess")
    assert read("The user reads <analysis>\nof chess")[0] == "reasoning"
    assert read(f"The user reads <analysis> of chess. {THINKING}")[0] == "reasoning"
    assert read("<think>a</think>So <think> b</think>Likes war films.") == ("text", "Likes war films.")


def test_words_in_brackets_and_tags_of_other_kinds_are_text():
    assert read("Likes [thinking] films.") == ("text", "Likes [thinking] films.")
    assert read("Likes <b>bold</b> and <thinks> films.") == ("text", "Likes <b>bold</b> and <thinks> films.")
    assert read("analysis of films is what they like") == ("text", "analysis of films is what they like")


all_marks = st.sampled_from([mark for pair in MARKS.values() for mark in pair])
any_summary = st.lists(st.one_of(all_marks, st.text(), st.sampled_from(['{"summary": "x"}', '"', "{", "}"]))).map(
    "".join
)


@given(any_summary.filter(str.strip), st.sampled_from(sorted(MARKS)), st.text(), st.booleans())
def test_any_summary_after_any_reasoning_comes_back(summary, form, thinking, ensure_ascii):
    start, end = MARKS[form]
    text = f"{start}{thinking}{end}" + json.dumps({"summary": summary}, ensure_ascii=ensure_ascii)
    assume(not re.fullmatch("<[^<>]*>", summary.strip()))
    assert read(text) == ("json", summary.strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    ("text", "opens_in_reasoning"),
    [
        (f"<think>{THINKING}", False),
        (f"So: <think>{THINKING}", False),
        (THINKING, True),
        ("", True),
        (f"<think>hm</think>Wait.<think>{THINKING}", False),
        (f"hm</think>Wait.<think>{THINKING}", True),
    ],
)
def test_reasoning_that_never_ends_fails(text, opens_in_reasoning, is_whole):
    assert read(text, opens_in_reasoning=opens_in_reasoning, is_whole=is_whole) == ("reasoning", text)


def test_numbers_of_the_completion_are_kept():
    completion = Completion(ANSWER, n_records=7, prompt_tokens=300, answer_tokens=12)
    assert read_answer(completion, attempts=2) == ("json", "likes war films", 2, 7, 300, 12)


def test_the_beginning_of_a_failure_is_kept():
    (status, text) = read(" " + "war " * 10_000, is_whole=False)
    assert status == "truncated"
    assert "war war war" in text
    assert len(text) <= 2000
    assert ("war " * 10_000).startswith(text)


def test_halves_of_characters_are_replaced():
    assert read('{"summary": "shoe \\ud83d"}') == ("json", "shoe \ufffd")
    assert read("shoe \ud83d") == ("text", "shoe \ufffd")
    assert read("shoe \ud83d", is_whole=False) == ("truncated", "shoe \ufffd")
    # Two halves that stand side by side are one character.
    assert read("shoe \ud83d\ude00") == ("text", "shoe \U0001f600")


@pytest.mark.parametrize(
    "text",
    [
        "{" * 500_000,
        '{"' * 300_000,
        '{"a":' * 100_000,
        '{"summary":' * 100_000,
        '{"a":[' * 100_000,
        '{"a":' * 900 + "[" + '{"b":1},' * 10_000,
        ('{"a":' * 800 + "x") * 100,
        '{"summary":' + "[" * 100_000,
        "{" + " " * 500_000,
        '{"summary": ' + "1" * 100_000 + "}",
        "<think>" * 100_000,
        "</think><think>" * 100_000,
        "<think " * 100_000,
        "[" * 300_000 + "<" * 300_000,
        "<" + " <" * 300_000,
        '{"a": 1}</think>' * 50_000,
        "analysis" + "assistant" * 100_000,
        "<|channel|>" * 100_000,
        "a-" * 300_000,
    ],
)
def test_hostile_answers_take_little_time(text):
    start = time.process_time()
    assert json_summary(text) is None
    # Trying each brace up to the end of the text would take minutes.
    assert time.process_time() - start < 5
    start = time.process_time()
    read_answer(Completion(text))
    assert time.process_time() - start < 10


@pytest.mark.parametrize("depth", [10, 900, 950, 990, 100_000])
def test_a_deeply_nested_summary_is_read_or_left_alone(depth):
    assert json_summary('{"summary": ' + "[" * depth + '"war"' + "]" * depth + "}") in ("war", None)
    assert json_summary('{"summary": ' + '{"a": ' * depth + '"war"' + "}" * depth + "}") in (
        "a: " * depth + "war",
        None,
    )


def test_nesting_hides_no_summary_that_follows():
    assert json_summary('{"a": ' + "[" * 100_000 + ANSWER) == "likes war films"


pieces = st.sampled_from(
    ["<think>", "</think>", "{", "}", '{"summary": ', '"', "[", "]", ",", "null", "\\", "\\ud83d", "war", "```json\n"]
)
any_text = st.one_of(st.text(st.characters()), st.lists(st.one_of(pieces, st.text(max_size=3))).map("".join))


@given(any_text, st.booleans(), st.booleans(), st.booleans())
def test_any_text_has_a_status(text, is_whole, opens_in_reasoning, use_plain):
    summary = read_answer(Completion(text, is_whole, opens_in_reasoning)).require_json_unless(use_plain)
    assert summary.status in STATUSES
    assert summary.is_usable == (summary.status not in FAILED)
    assert not summary.is_usable or summary.text.strip()
    summary.text.encode()


def test_every_status_is_usable_or_failed():
    assert sorted([*USABLE, *FAILED]) == sorted(STATUSES)


around = st.text().map(lambda text: text.translate({ord(brace): None for brace in "{}"}))


@given(st.text().filter(str.strip), around, around, st.booleans(), st.booleans())
def test_a_summary_in_json_is_found_whatever_stands_around(summary, before, after, ensure_ascii, is_whole):
    text = before + json.dumps({"summary": summary}, ensure_ascii=ensure_ascii) + after
    assert read(text, is_whole=is_whole) == ("json", summary.strip())


def test_the_form_of_the_answer_repeated_from_the_prompt_is_no_summary():
    echoed = '{"summary": "<the summary, one paragraph>"}'
    assert read_answer(Completion(echoed + ' Here it is: {"summary": "likes horror"}')).text == "likes horror"
    assert read_answer(Completion(echoed)).require_json_unless(use_plain=False).status == "not_json"
    assert read_answer(Completion('{"summary": "likes <b>bold</b> films"}')).text == "likes <b>bold</b> films"


def test_part_of_an_object_that_was_cut_off_is_no_summary():
    assert read('{"profile": {"summary": "draft"}, "summary": "likes A, B and', is_whole=False)[0] == "truncated"
    assert read('{"profile": {"summary": "draft"}, "summary": "likes A"} And', is_whole=False) == ("json", "likes A")
