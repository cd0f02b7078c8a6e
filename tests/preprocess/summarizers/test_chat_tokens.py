import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summarizers.chat_tokens import ChatTokens
from tests.tiny_llm import SENTENCES, TEMPLATE, save_model, save_tokenizer

transformers = pytest.importorskip("transformers")
RARE = "\U00013000\U00013001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(save_tokenizer(tmp_path_factory.mktemp("llm")))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokens(folder):
    return ChatTokens(str(folder), None, None, 16)


def count(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def prompt(*words):
    return Prompt(0, "recommendation", tuple((word,) for word in words), "Describe the user.\n{history}")


# ---- shorten --------------------------------------------------------------------------------------------------------

words = st.sampled_from(
    [*" ".join(SENTENCES).split(), *SENTENCES, RARE, "\U0001f600", "e\u0301", "'re", "  ", "\n", "!?"]
)
texts = st.one_of(st.text(), st.lists(st.one_of(words, st.text(max_size=3))).map("".join))


@given(text=texts, length=st.integers(1, 12))
def test_a_text_is_cut_to_its_beginning(tokens, tokenizer, text, length):
    cut = tokens.shorten(text, length)
    whole = " ".join(text.split())
    assert whole.startswith(cut)
    assert count(tokenizer, cut) <= length
    assert tokens.shorten(cut, length) == cut
    if count(tokenizer, whole) <= length:
        assert cut == whole
    else:
        # A character has at most four bytes, and so tokens; before it a space may have been left off.
        assert count(tokenizer, cut) >= length - 4


def test_whole_tokens_are_kept(tokens, tokenizer):
    indices = tokenizer(SENTENCES[0], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert len(indices) > 20
    for length, (_, end) in enumerate(indices, start=1):
        assert tokens.shorten(SENTENCES[0], length) == SENTENCES[0][:end].rstrip()


def test_a_character_of_several_tokens_is_kept_whole_or_not_at_all(tokens, tokenizer):
    assert count(tokenizer, RARE) == 8
    assert [tokens.shorten(RARE, length) for length in range(1, 10)] == [*[""] * 3, *[RARE[0]] * 4, RARE, RARE]


def test_whitespace_becomes_single_spaces(tokens):
    assert tokens.shorten(" the \n war\t", 10) == "the war"


# ---- fit ------------------------------------------------------------------------------------------------------------


def in_template(tokenizer, prompt):
    messages = [{"role": "user", "content": prompt.text}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]


def test_a_prompt_that_fits_is_left_whole(tokens, tokenizer):
    whole = prompt("war", "drama")
    assert tokens.fit(whole) == (whole.text, in_template(tokenizer, whole), 2)


@pytest.mark.parametrize("max_tokens", [8, 1000])
@pytest.mark.parametrize("context_length", [64, 80, 100, 130])
@pytest.mark.parametrize(
    "records", [["war"] * 40, ["war " * 40, *["war"] * 9], [*["war"] * 30, "war " * 12], ["war"] * 2]
)
def test_the_fewest_and_oldest_records_are_left_out(folder, tokenizer, records, context_length, max_tokens):
    limit = context_length - min(max_tokens, context_length // 4)
    rests = [prompt(*records[n_dropped:]) for n_dropped in range(len(records))]
    expected = next(rest for rest in rests if len(in_template(tokenizer, rest)) <= limit)
    fitted = ChatTokens(str(folder), None, context_length, max_tokens).fit(prompt(*records))
    assert fitted == (expected.text, in_template(tokenizer, expected), len(expected.records))


@pytest.mark.parametrize("records", [["war " * 100], ["war", "war " * 100]])
def test_one_record_that_is_too_long_is_refused(folder, records):
    with pytest.raises(
        SettingError, match="llm_context_length 64 is too short for a prompt with one record \\([0-9]+ tokens\\)"
    ):
        ChatTokens(str(folder), None, 64, 8).fit(prompt(*records))


def test_without_a_chat_template_the_tokenizer_adds_its_own_tokens(tmp_path):
    tokens = ChatTokens(str(save_tokenizer(tmp_path, template=None)), None, 64, 8)
    plain = prompt("war")
    bare = tokens.tokenizer(plain.text, add_special_tokens=False)["input_ids"]
    assert tokens.fit(plain) == (plain.text, [0, *bare], 1)
    assert not tokens.opens_reasoning


@pytest.mark.parametrize(
    ("start", "opens"),
    [("<bot>", False), ("<bot><think>\n", True), ("<bot><think>", True), ("<bot><think></think>", False)],
)
def test_templates_that_open_a_reasoning_block(tmp_path, start, opens):
    save_tokenizer(tmp_path, TEMPLATE.replace("<bot>", start))
    assert ChatTokens(str(tmp_path), None, 64, 8).opens_reasoning is opens


# ---- what is read from the folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "given", "used"), [(256, None, 256), (100_000, None, 8192), (256, 128, 128), (100, 9000, 9000)]
)
def test_context_length(tmp_path, own, given, used):
    transformers.LlamaConfig(max_position_embeddings=own).save_pretrained(tmp_path)
    assert ChatTokens(str(tmp_path), None, given, 8).context_length == used


def test_the_tokenizer_may_lie_elsewhere(folder, tokenizer, tmp_path):
    transformers.LlamaConfig(max_position_embeddings=128).save_pretrained(tmp_path)
    tokens = ChatTokens(str(tmp_path), str(folder), None, 8)
    assert tokens.context_length == 128
    assert tokens.fit(prompt("war")).tokens == in_template(tokenizer, prompt("war"))


def test_a_folder_without_a_model_is_named(tmp_path):
    for name in ("tokenizer", "context_length"):
        with pytest.raises(SettingError, match=rf"llm: no (tokenizer|language model) in '{tmp_path}'") as caught:
            getattr(ChatTokens(str(tmp_path), None, None, 8), name)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_tell_places_is_refused(tmp_path):
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SettingError, match=f"in '{tmp_path}' does not report the positions of its tokens"):
        ChatTokens(str(tmp_path), None, 64, 8).shorten("the war", 1)
