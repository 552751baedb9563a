"""lm-evaluation-harness: its tasks on a live model.

What: `harness_tasks`, `live_harness_model`, `require_harness`.
Why: its tasks are what others publish, and a live edited model must not be saved and loaded again to be run
through them.
How: the model goes into the harness's own `HFLM` as it stands, so prompts and metrics are the harness's. Four
things are ours: the begin token stands in front of every text, once, as in training and in use;
log-probabilities are normalised in fp32; nothing is printed; and the standard errors (harness_comparison.py),
since the harness prints while it makes them. `HFLM` pads on the right for log-likelihoods, where a causal
model never looks, and on the left, with a mask, for generation.

The harness is an extra: pip install 'memedit[lm-eval]'. It is imported when tasks are run, not before.
"""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from memedit.errors import UsageError
from memedit.evaluation.harness_comparison import harness_stderr
from memedit.progress import NULL_PROGRESS, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["harness_tasks", "live_harness_model", "require_harness"]

_BATCH_ROWS = 8
_NO_FILTER = "none"


def require_harness() -> None:
    """Raise where lm-evaluation-harness is not installed.

    Raises:
        UsageError: It says how to install it.
    """
    _harness_module("lm_eval")


def harness_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> dict[str, Any]:
    """Run tasks of lm-evaluation-harness on a live model.

    Args:
        model: Any transformers causal LM, on any device.
        tokenizer: Its tokenizer, a fast one.
        tasks: Names of the harness's tasks or groups, or paths of task files (YAML).
        limit: Most questions of each task; None = all.
        seed: Of what the harness draws (few-shot examples, the bootstrap of some standard errors).
        progress: Told of every question.
    Returns:
        JSON values: "lm_eval" (its version), "protocol", "limit", "seed", and "tasks", by name: "version",
        "n" (questions), "metrics" by name ("value", "stderr", "higher_is_better"), and "samples", one for
        each question ("item", "prompt", "target", and by metric its number, or number and weight). A number
        that there is not is None.
    Raises:
        UsageError: The harness is not installed, a task is not known, or its data cannot be had.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}", remedy="Leave it out for all questions.")
    harness = _harness_module("lm_eval")
    evaluator = _harness_module("lm_eval.evaluator")
    from memedit.evaluation.generation import evaluating

    with _quiet(), evaluating(model), progress.task("Loading lm-eval's tasks", None) as loading:
        loaded = _load_tasks(tasks, seed)
        loading.describe("Building lm-eval's questions")
        found = evaluator.evaluate(
            lm=live_harness_model(model, tokenizer, progress),
            task_dict=loaded,
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
        )
    return {
        "lm_eval": harness.__version__,
        "protocol": f"lm-evaluation-harness {harness.__version__}, the task's own prompts and metrics, begin "
        "token in front",
        "limit": limit,
        "seed": seed,
        "tasks": {name: _task_json(found, name, seed) for name in found["results"]},
    }


def _task_json(found: Mapping[str, Any], name: str, seed: int) -> dict[str, Any]:
    results, better = found["results"][name], found["higher_is_better"].get(name, {})
    samples = _samples_of(found, name)
    metrics = {}
    for key, value in results.items():
        metric, _, kind = key.partition(",")
        if kind and not metric.endswith("_stderr") and isinstance(value, (int, float)):
            shown = _metric_name(metric, kind)
            metrics[shown] = {
                "value": _finite(float(value)),
                "stderr": _finite(harness_stderr(float(value), samples, shown, seed=seed)),
                "higher_is_better": better.get(metric),
            }
    return {
        "version": found["versions"].get(name),
        "n": len(samples),
        "metrics": metrics,
        "samples": samples,
    }


def _samples_of(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The questions of a task, or of all tasks in a group, each named by its task then."""
    if name in found["samples"]:
        return _samples_json(found["samples"][name])
    return [
        {**sample, "item": f"{task}/{sample['item']}"}
        for task in found["group_subtasks"].get(name, ())
        for sample in _samples_of(found, task)
    ]


def _samples_json(logged: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One object for each question, with its numbers under every filter."""
    samples: dict[str, dict[str, Any]] = {}
    for sample in logged:
        # By place, too: a data set may hold the same question twice.
        item = f"{sample['doc_id']}-{str(sample['doc_hash'])[:12]}"
        prompt = str(sample["arguments"][0][0]) if sample["arguments"] else ""
        kept = samples.setdefault(item, {"item": item, "prompt": prompt, "target": str(sample["target"])})
        for metric in sample["metrics"]:
            value = _plain(sample[metric])
            if value is not None:
                kept[_metric_name(metric, sample["filter"])] = value
    return list(samples.values())


def _plain(value: object) -> float | list[float] | None:
    """A question's number, or its number and weight; None for what is neither."""
    if isinstance(value, (bool, int, float)):
        return _finite(float(value))
    if (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(x, (int, float)) for x in value)
    ):
        return [float(number) for number in value] if all(map(math.isfinite, value)) else None
    return None


def _metric_name(metric: str, kind: str) -> str:
    return metric if kind == _NO_FILTER else f"{metric},{kind}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _harness_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise UsageError(
            "lm-evaluation-harness is not installed", remedy="Install it: pip install 'memedit[lm-eval]'"
        ) from error


def _load_tasks(tasks: Sequence[str], seed: int) -> Any:
    """Load tasks by name or path, with the harness's own defaults."""
    manager_module = _harness_module("lm_eval.tasks")
    is_file = [name.endswith((".yaml", ".yml")) for name in tasks]
    # The index of all its tasks takes seconds, and files need none of them.
    manager = manager_module.TaskManager(include_defaults=not all(is_file))
    known = set(manager.all_tasks)
    unknown = [name for name, path in zip(tasks, is_file, strict=True) if not path and name not in known]
    if unknown or not tasks:
        raise UsageError(
            f"tasks must be known to lm-evaluation-harness, got {', '.join(unknown) or 'none'}",
            remedy="`lm-eval ls tasks` lists them; a task of your own is named by the path of its YAML file.",
        )
    try:
        loaded = manager.load(list(tasks))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"the data of {', '.join(tasks)} cannot be loaded: {error}",
            remedy="Most tasks fetch their data from the Hugging Face hub; without a network use a task file "
            "with local data (dataset_path: json, dataset_kwargs: data_files).",
        ) from error
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    return loaded


def live_harness_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, progress: Progress = NULL_PROGRESS
) -> Any:
    """Wrap a model that is already built for lm-evaluation-harness.

    Args:
        model: Any transformers causal LM, on any device; it is not copied; it is put into evaluation mode.
        tokenizer: Its tokenizer, a fast one; a copy of it is made.
        progress: Told of every question.
    Returns:
        An `lm_eval.models.huggingface.HFLM` that reads what the model reads in training and in use.
    Raises:
        UsageError: The harness is not installed, or the tokenizer is a slow one.
    """
    from memedit.modeling.encoding import bos_ids

    begin = bos_ids(tokenizer, model.config)
    return _live_model_class(progress)(
        pretrained=model,
        backend="causal",
        tokenizer=_beginning(tokenizer, begin),
        batch_size=_BATCH_ROWS,
        softmax_dtype="float32",
        add_bos_token=True,
        prefix_token_id=begin[-1] if begin else None,
    )


def _live_model_class(progress: Progress) -> Any:
    """The harness's own wrapper, made here since its base is imported only where it is installed."""
    base: Any = _harness_module("lm_eval.models.huggingface").HFLM

    class LiveModel(base):  # type: ignore[misc]
        """The harness's own wrapper, told to be silent and to put one begin token in front."""

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            with progress.task("Asking lm-eval's questions", len(requests)) as task:
                self.waiting = task
                return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            # The harness puts the prefix token in front itself here.
            self.add_bos_token = False
            try:
                with progress.task("Reading lm-eval's texts", None) as task:
                    self.waiting = task
                    return super().loglikelihood_rolling(requests, disable_tqdm=True)
            finally:
                self.add_bos_token = True

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **options: Any) -> Any:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, **options)

        def _model_call(self, inps: Any, *arguments: Any, **options: Any) -> Any:
            logits = super()._model_call(inps, *arguments, **options)
            self.waiting.advance(len(inps))
            return logits

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> Any:
            with progress.task("Generating lm-eval's answers", None) as task:
                self.waiting = task
                return super().generate_until(requests, disable_tqdm=True)

        def _model_generate(self, context: Any, *arguments: Any, **options: Any) -> Any:
            texts = super()._model_generate(context, *arguments, **options)
            self.waiting.advance(len(context))
            return texts

    return LiveModel


def _beginning(tokenizer: PreTrainedTokenizerBase, begin: Sequence[int]) -> Any:
    """A copy of the tokenizer that puts the begin tokens in front by itself."""
    from tokenizers.processors import TemplateProcessing

    if not tokenizer.is_fast:
        raise UsageError(
            f"tokenizer: got {type(tokenizer).__name__}, expected a fast tokenizer (one with tokenizer.json)",
            remedy="Save the tokenizer with a tokenizer.json, or load it with use_fast=True.",
        )
    made: Any = copy.deepcopy(tokenizer)
    tokens = made.convert_ids_to_tokens(list(begin))
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*tokens, "$A"], special_tokens=list(zip(tokens, begin, strict=True))
    )
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness and its data sets from printing."""
    datasets = importlib.import_module("datasets")
    task_module = _harness_module("lm_eval.api.task")
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    had_bars = not datasets.are_progress_bars_disabled()
    with ExitStack() as closing:
        silent = _without_bar(task_module.tqdm)
        closing.enter_context(mock.patch.object(task_module, "tqdm", silent))
        try:
            datasets.disable_progress_bars()
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if had_bars:
                datasets.enable_progress_bars()


def _without_bar(tqdm: Any) -> Any:
    def silent(*arguments: Any, **options: Any) -> Any:
        return tqdm(*arguments, **{**options, "disable": True})

    return silent
