"""A fake model that answers from a table, so that every metric comes out at a number computed by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from memedit.evaluation.generation import Generation
from memedit.evaluation.scoring import Scored

END = 0
END_TEXT = "<|im_end|>"
CONFIDENCE_LOGIT = 10.0


class CharTokenizer:
    """One token per character; token 0 begins and ends a text, and so does its name within one."""

    is_fast = True

    def __init__(self, texts):
        self.chars = ["", *sorted(set("".join([*texts, "a\n"])))]
        self.ids = {char: index for index, char in enumerate(self.chars)}
        self.eos_token_id = self.bos_token_id = END

    def __len__(self):
        return len(self.chars)

    def __call__(self, text, add_special_tokens=True):
        first, *more = ([self.ids[char] for char in part] for part in text.split(END_TEXT))
        return {"input_ids": [*first, *(token for part in more for token in (END, *part))]}

    def decode(self, ids, skip_special_tokens=False, clean_up_tokenization_spaces=True):
        return "".join(self.chars[index] for index in ids)


class TableCache:
    def __init__(self, histories):
        self.histories = histories

    def batch_select_indices(self, indices):
        self.histories = [self.histories[index] for index in indices.tolist()]


class TableModel(torch.nn.Module):
    """A causal LM that continues each known prompt with its scripted answer, then ends the text.

    It checks what a real model relies on: mask and positions of every row agree with the tokens that it saw.
    """

    def __init__(self, tokenizer, answers):
        super().__init__()
        self.tokenizer, self.answers = tokenizer, answers
        self.config = SimpleNamespace(eos_token_id=END, memory_bos_token_id=None)
        self.device = torch.device("cpu")
        self.rows_run = []

    def forward(
        self,
        input_ids,
        attention_mask,
        position_ids,
        past_key_values=None,
        use_cache=None,
        logits_to_keep=0,
    ):
        assert use_cache
        assert logits_to_keep == 1
        cache = past_key_values or TableCache([[] for _ in input_ids])
        num_new = input_ids.shape[1]
        self.rows_run.append(len(input_ids))
        logits = torch.zeros(len(input_ids), 1, len(self.tokenizer))
        for row, history in enumerate(cache.histories):
            real = attention_mask[row, -num_new:].bool()
            tokens = input_ids[row][real].tolist()
            expected = list(range(len(history), len(history) + len(tokens)))
            assert position_ids[row][real].tolist() == expected
            history.extend(tokens)
            assert int(attention_mask[row].sum()) == len(history)
            logits[row, 0, self._next(history)] = CONFIDENCE_LOGIT
        return SimpleNamespace(logits=logits, past_key_values=cache)

    def _next(self, history):
        assert history[0] == END, "no begin token in front of the prompt"
        text = self.tokenizer.decode(history)
        prompt = max((p for p in self.answers if text.startswith(p)), key=len)
        said, answer = text[len(prompt) :], self.answers[prompt]
        assert answer.startswith(said)
        rest = answer[len(said) :]
        return self.tokenizer.ids[rest[0]] if rest and not rest.startswith(END_TEXT) else END


@pytest.fixture
def table_model():
    """Build (model, tokenizer) from a mapping of prompt to answer."""

    def build(answers):
        tokenizer = CharTokenizer([*answers, *answers.values()])
        return TableModel(tokenizer, answers), tokenizer

    return build


@pytest.fixture
def char_tokenizer():
    return CharTokenizer


class TableRespondent:
    """Answers and scores from tables; a prompt or pair that is not in them fails the test.

    Args:
        answers: prompt -> generated text, or (text, confidence).
        scores: (prompt, continuation) -> (log-probability, tokens, tokens that are the first choice).
        default_answer: what is said to every other prompt.
        default_score: the score of every other pair.
        samples: prompt -> the texts that are drawn, over and over; other prompts draw from the answers.
    """

    def __init__(self, answers=(), scores=(), *, default_answer=None, default_score=None, samples=()):
        self.answers, self.scores, self.samples = dict(answers), dict(scores), dict(samples)
        self.default_answer, self.default_score = default_answer, default_score
        self.answer_calls, self.score_calls, self.sample_calls = [], [], []

    def answer(self, prompts, *, max_new_tokens=16, description=""):
        self.answer_calls.append((list(prompts), max_new_tokens))
        texts = [self._found(self.answers, prompt, self.default_answer) for prompt in prompts]
        return [self._generation(text) for text in texts]

    def score(self, pairs, *, description=""):
        self.score_calls.append(list(pairs))
        return [Scored(*self._found(self.scores, pair, self.default_score)) for pair in pairs]

    def sample(self, prompts, drawing, *, description=""):
        self.sample_calls.append((list(prompts), drawing))
        pools = [
            self.samples.get(prompt) or [self._found(self.answers, prompt, self.default_answer)]
            for prompt in prompts
        ]
        return [
            tuple(self._generation(pool[number % len(pool)]) for number in range(drawing.num_samples))
            for pool in pools
        ]

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

    @staticmethod
    def _generation(said):
        text, confidence = said if isinstance(said, tuple) else (said, 0.5)
        return Generation(text, (1,), confidence, "eos")

    @staticmethod
    def _found(table, asked, default):
        assert asked in table or default is not None, f"not in the table: {asked!r}"
        return table.get(asked, default)


@pytest.fixture
def table_respondent():
    return TableRespondent


@pytest.fixture
def task_file(tmp_path):
    """Write a task of lm-evaluation-harness with local data: task_file(name, records, **fields) -> path."""

    def write(name, records, **fields):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
            "test_split": "test",
            "metadata": {"version": 1.0},
            **fields,
        }
        path = tmp_path / f"{name}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(task), encoding="utf-8")
        return str(path)

    return write
