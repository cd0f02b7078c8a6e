import pytest
import torch

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.preprocess.summarizers.local_model import Generated, Sampling
from recbole_gserec.settings.offline import PreprocessSettings
from tests.tiny_llm import TEMPLATE, save_model, save_tokenizer

transformers = pytest.importorskip("transformers")
TEXTS = ["war", "horror and science fiction of 1979, horror, horror", "\u978b\u5b50", "the user likes slow dramas"]
PROMPTS = [Prompt(0, "search", (("war",), (text,)), "Describe the user.\n{history}") for text in TEXTS]
N_TOKENS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(save_tokenizer(tmp_path_factory.mktemp("llm")))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def make(folder, **settings):
    settings = {"llm_max_tokens": N_TOKENS, "llm_repetition_penalty": 1.0, **settings}
    return SUMMARIZERS["transformers"](PreprocessSettings(summarizer="transformers", llm=str(folder), **settings))


def texts(completions):
    return [completion.text for completion in completions]


@torch.no_grad()
def likeliest(model, prompt, penalty, ends=(1,), n_tokens=N_TOKENS):
    """One likeliest token after the other, for one prompt alone."""
    tokens = list(prompt)
    for _ in range(n_tokens):
        scores = model(torch.tensor([tokens])).logits[0, -1]
        # A token that is there already has its score lowered (Eq. 2 of arXiv:1909.05858, where scores are positive).
        for token in set(tokens):
            scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
        token = int(scores.argmax())
        if token in ends:
            return tokens[len(prompt) :], True
        tokens.append(token)
    return tokens[len(prompt) :], False


def generated(tokenizer, tokens, is_whole):
    return Generated(tokenizer.decode(tokens, skip_special_tokens=True), is_whole, len(tokens))


def greedy(penalty):
    return Sampling(0.0, 1.0, 0, penalty, 1, N_TOKENS)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_answers_are_the_likeliest_tokens_of_each_prompt_alone(folder, model, tokenizer, penalty):
    summarizer = make(folder)
    prompts = [summarizer.tokens.fit(prompt).tokens for prompt in PROMPTS]
    assert len({len(tokens) for tokens in prompts}) > 1
    expected = [likeliest(model, tokens, penalty) for tokens in prompts]
    assert len({tuple(tokens) for tokens, _ in expected}) == len(prompts)
    assert summarizer.generate(prompts, greedy(penalty)) == [generated(tokenizer, *answer) for answer in expected]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("is_said_by", ["model", "tokenizer"])
def test_an_answer_ends_at_the_token_that_ends_it(folder, model, tmp_path, penalty, is_said_by):
    tokens = make(folder).tokens
    prompts = [tokens.fit(prompt).tokens for prompt in PROMPTS]
    # The first is to end after some tokens. A longer one makes it be padded.
    assert len(prompts[0]) < max(map(len, prompts))
    answer, _ = likeliest(model, prompts[0], penalty, ends=())
    end = next(token for index, token in enumerate(answer) if index > 2 and token not in [*answer[:index], *prompts[0]])
    if is_said_by == "model":
        save_model(save_tokenizer(tmp_path), end=[2, end])
    else:
        save_model(save_tokenizer(tmp_path, end=tokens.tokenizer.convert_ids_to_tokens(end)))
    expected = [likeliest(model, prompt, penalty, ends=(1, 2, end)) for prompt in prompts]
    assert expected[0] == (answer[: answer.index(end)], True)
    assert len(expected[0][0]) > 2
    found = make(tmp_path).generate(prompts, greedy(penalty))
    assert found == [generated(tokens.tokenizer, *answer) for answer in expected]


def test_without_a_token_that_ends_it_an_answer_goes_on_to_the_limit(tmp_path):
    save_model(save_tokenizer(tmp_path, end=None), end=None)
    answers = make(tmp_path).complete(PROMPTS, 1)
    assert [(answer.is_whole, answer.answer_tokens) for answer in answers] == [(False, N_TOKENS)] * len(PROMPTS)


@pytest.mark.parametrize("limit", [1, 7])
def test_answers_are_no_longer_than_allowed(folder, limit):
    short, long = make(folder, llm_max_tokens=limit).complete(PROMPTS, 1), make(folder).complete(PROMPTS, 1)
    assert max(answer.answer_tokens for answer in short) == limit
    for one, other in zip(short, long, strict=True):
        assert (one.answer_tokens, one.is_whole) == (min(limit, other.answer_tokens), other.answer_tokens < limit)
        assert other.text.startswith(one.text.rstrip("\ufffd"))


def test_prompt_and_answer_stay_within_the_context(folder):
    summarizer = make(folder, llm_context_length=64, llm_max_tokens=500)
    many = PROMPTS[0]._replace(records=(("war",),) * 60)
    answers = summarizer.complete([many, PROMPTS[0]], 1)
    assert answers[0].n_records < 60
    assert all(64 // 4 <= answer.answer_tokens <= 64 - answer.prompt_tokens for answer in answers)


def test_completions_say_what_they_were_made_from(folder, tokenizer):
    for prompt, answer in zip(PROMPTS, make(folder).complete(PROMPTS, 1), strict=True):
        assert answer.n_records == 2
        assert answer.prompt_tokens == len(
            tokenizer(f"<s><user>{prompt.text}<end><bot>", add_special_tokens=False).input_ids
        )
        assert answer.opens_in_reasoning is False


def test_a_template_that_opens_a_reasoning_block_is_noticed(tmp_path):
    save_model(save_tokenizer(tmp_path, TEMPLATE.replace("<bot>", "<bot><think>")))
    assert all(answer.opens_in_reasoning for answer in make(tmp_path).complete(PROMPTS, 1))


def test_sampling_is_repeated_by_its_seed_whatever_the_global_state(folder):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = make(folder, llm_temperature=1.0, llm_seed=3).complete(PROMPTS, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert make(folder, llm_temperature=1.0, llm_seed=3).complete(PROMPTS, 1) == first
    assert make(folder, llm_temperature=1.0, llm_seed=4).complete(PROMPTS, 1) != first


def test_later_attempts_are_sampled_each_in_its_own_way(folder):
    summarizer = make(folder)
    attempts = [summarizer.complete(PROMPTS, attempt) for attempt in (1, 2, 3, 1, 2)]
    assert attempts[:2] == attempts[3:]
    for index in range(len(PROMPTS)):
        assert len({attempt[index].text for attempt in attempts}) == 3


@pytest.mark.parametrize("settings", [{"llm_top_k": 1}, {"llm_top_p": 1e-6}, {"llm_temperature": 1e-4}])
def test_the_narrowest_sampling_takes_the_likeliest_tokens(folder, settings):
    sampled = make(folder, **{"llm_temperature": 1.0, **settings}).complete(PROMPTS, 1)
    assert sampled == make(folder).complete(PROMPTS, 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "own",
    [
        {"do_sample": True, "temperature": 0.01, "top_p": 0.1, "top_k": 1},
        {"do_sample": True, "temperature": 9.0, "min_p": 0.5, "typical_p": 0.1},
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(4, 150))},
        {"min_new_tokens": N_TOKENS, "max_new_tokens": N_TOKENS + 1},
        {"max_length": 5},
        {"num_beams": 3},
        {"num_return_sequences": 2, "do_sample": True},
    ],
)
def test_the_models_own_defaults_do_not_leak_in(folder, tmp_path, own, temperature):
    save_model(save_tokenizer(tmp_path), **own)
    expected = make(folder, llm_temperature=temperature).complete(PROMPTS, 1)
    assert make(tmp_path, llm_temperature=temperature).complete(PROMPTS, 1) == expected


def test_after_closing_the_model_is_loaded_again(folder):
    summarizer = make(folder)
    before = summarizer.complete(PROMPTS, 1)
    summarizer.close()
    summarizer.close()
    assert summarizer.complete(PROMPTS, 1) == before


def test_making_a_summarizer_loads_nothing(tmp_path):
    make(tmp_path / "there is no such model").close()


def test_a_folder_without_weights_is_named(tmp_path):
    save_tokenizer(tmp_path)
    transformers.LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(SettingError, match=rf"llm: no language model in '{tmp_path}'") as caught:
        make(tmp_path).complete(PROMPTS, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"llm_json_schema": True}, {"llm_engine_args": {"seed": 1}}])
def test_settings_of_other_summarizers_are_refused(folder, settings):
    with pytest.raises(SettingError, match=f"{next(iter(settings))} only applies to the summarizers vllm and openai"):
        make(folder, **settings)


def test_settings_that_decide_answers_tell_summarizers_apart(folder, tmp_path):
    same = make(folder).settings
    assert make(folder).settings == same
    assert make(folder, llm_batch_size=3).settings == same
    others = [{"llm_seed": 1}, {"llm_temperature": 0.5}, {"llm_max_tokens": 9}, {"llm_context_length": 99}]
    assert all(make(folder, **other).settings != same for other in others)
    other = save_model(save_tokenizer(tmp_path), seed=1)
    assert make(other).settings["content"] != same["content"]
    tokenizers = [make(folder, llm_tokenizer=str(tokenizer)).settings for tokenizer in (folder, other)]
    assert tokenizers[0] != tokenizers[1]
