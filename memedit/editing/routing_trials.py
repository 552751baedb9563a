"""Routing trials: which layer and temperature suit a model, found on made-up names without training.

For each candidate the routing is fitted on some of the calibration names. Other names are then treated as
taught: they get slots and gates exactly as an edit gives them. What counts is how often a name's gate opens
in contexts that it was not selected with, and how often any gate opens at look-alikes. An edit can be no
better than its gates: facts are found in other wordings, and leak, as far as gates open. All candidates read
one pass through the lower blocks.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from memedit.editing.by_owner import means_by_owner
from memedit.editing.row_states import SubjectRouting
from memedit.editing.selection import Selection, SelectionSettings, SlotSelector
from memedit.editing.trial_material import CONTEXTS, TrialMaterial, trial_material
from memedit.modeling import MemoryLayer, gated_look_ups
from memedit.modeling.background import BackgroundStatistics, count_slots
from memedit.modeling.calibration import RoutingSettings, RoutingTrial, fit_routing
from memedit.modeling.lower_blocks import ffn_inputs_of, length_batches, pad_right
from memedit.modeling.retrofit import Retrofit, apply_retrofit
from memedit.progress import NULL_PROGRESS, Progress

TEMPERATURES = (10.0, 20.0, 40.0)
LEAK_COST = 2.0
NUM_DOCUMENTS = 24
BATCH_TOKENS = 2048


def candidate_layers(num_layers: int) -> tuple[int, ...]:
    """Blocks a sixth, a fifth, a quarter and a third of the way up, with at least one block above them."""
    highest = max(0, num_layers - 2)
    return tuple(sorted({min(num_layers // part, highest) for part in (6, 5, 4, 3)}))


def choose_routing(
    llama: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    openings: Sequence[str],
    settings: RoutingSettings,
    *,
    bos: Sequence[int],
    progress: Progress = NULL_PROGRESS,
) -> tuple[RoutingSettings, tuple[RoutingTrial, ...]]:
    """Choose layer and temperature by trial.

    Args:
        llama: the model; it is read only.
        tokenizer: its tokenizer.
        rows: background documents as tokens.
        openings: sentences of background text.
        settings: sizes and seeds of the routing.
        bos: begin tokens.
        progress: told of what is done.

    Returns:
        The settings with layer and temperature, and what was tried, the chosen one marked.
    """
    layers = candidate_layers(llama.config.num_hidden_layers)
    material = trial_material(llama, tokenizer, rows[:NUM_DOCUMENTS], openings, settings, bos)
    reading = _Reading(llama, layers, max(settings.head_windows), progress)
    candidates = _Trials(llama, material, reading, settings)
    found: list[tuple[RoutingTrial, Tensor]] = []
    with progress.task("Trying layers: gates", len(layers)) as task:
        for layer in layers:
            found += candidates.tried(layer)
            task.advance()
    trials = [trial for trial, _ in found]
    scores = torch.stack([score for _, score in found])
    best = best_trial(trials, scores)
    trials[best] = replace(trials[best], chosen=True)
    chosen = replace(settings, layer=trials[best].layer, temperature=trials[best].temperature)
    return chosen, tuple(trials)


def best_trial(trials: Sequence[RoutingTrial], scores: Tensor) -> int:
    """Index of the trial that is not worse than the best one within noise and costs least.

    A later layer costs less: fewer blocks above it are trained through. The noise is the standard error of
    the names' differences to the best trial.

    Args:
        trials: what was tried.
        scores: fp32 [trials, names], opened - LEAK_COST * leaked of each name.
    """
    means = scores.mean(1)
    behind = scores[int(means.argmax())] - scores
    noise = behind.std(1, correction=0) / scores.shape[1] ** 0.5
    level = [index for index in range(len(trials)) if float(behind[index].mean() - noise[index]) <= 0]
    return max(level, key=lambda index: (trials[index].layer, float(means[index])))


class _Reading:
    """Query windows of everything that the candidates route, at all layers at once.

    Args:
        llama: the model.
        layers: the candidates.
        window: tokens that the longest query sees.
        progress: told of rows done.
    """

    def __init__(
        self, llama: LlamaForCausalLM, layers: Sequence[int], window: int, progress: Progress
    ) -> None:
        self.llama, self.layers, self.window, self.progress = llama, layers, window, progress

    @torch.no_grad()
    def windows(self, rows: Sequence[Sequence[int]], what: str) -> dict[int, Tensor]:
        """Windows at the last token of each row, fp32 [rows, window, hidden_size], for each layer."""
        width = self.llama.config.hidden_size
        found = {layer: torch.empty(len(rows), self.window, width) for layer in self.layers}
        with self.progress.task(f"Trying layers: {what}", len(rows)) as task:
            for batch in length_batches([len(row) for row in rows], BATCH_TOKENS):
                ids = pad_right([rows[index] for index in batch]).to(self.llama.device)
                last = torch.tensor([len(rows[index]) - 1 for index in batch])
                back = (last[:, None] - torch.arange(self.window)).clamp(min=0)
                for layer, (_, normalised) in ffn_inputs_of(self.llama, self.layers, ids).items():
                    found[layer][batch] = normalised.cpu().float()[torch.arange(len(batch))[:, None], back]
                task.advance(len(batch))
        return found

    @torch.no_grad()
    def states(self, documents: Sequence[Sequence[int]]) -> dict[int, list[Tensor]]:
        """Whole documents, fp16 [time, hidden_size] each, for each layer."""
        found: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}
        with self.progress.task("Trying layers: background text", len(documents)) as task:
            for row in documents:
                ids = torch.tensor([list(row)], device=self.llama.device)
                for layer, (_, normalised) in ffn_inputs_of(self.llama, self.layers, ids).items():
                    found[layer].append(normalised[0].half().cpu())
                task.advance()
        return found


class _Trials:
    """Tries candidates on what was read once.

    Args:
        llama: the model.
        material: names and texts.
        reading: reads them.
        settings: sizes and seeds of the routing.
    """

    def __init__(
        self, llama: LlamaForCausalLM, material: TrialMaterial, reading: _Reading, settings: RoutingSettings
    ) -> None:
        self.llama, self.material, self.settings = llama, material, settings
        self.fitted = reading.windows(material.fitted, "names in context")
        self.states = reading.states(material.documents)
        told = material.taught
        parts = (told.rows, told.decoys, material.unseen, material.look_alikes)
        self.owners = [torch.tensor([row.owner for row in part], dtype=torch.int64) for part in parts]
        flat = [row.encoded.ids[: row.subject_last + 1] for part in parts for row in part]
        self.asked = reading.windows(flat, "held-out names")

    def tried(self, layer: int) -> list[tuple[RoutingTrial, Tensor]]:
        """Return the trials of a layer, one a temperature, and each name's score, fp32 [names]."""
        groups = self.material.groups
        fitted = self.fitted[layer].view(len(groups), CONTEXTS, *self.fitted[layer].shape[1:])
        routing = fit_routing(fitted, groups, self.states[layer], self.settings)
        empty = BackgroundStatistics.empty(self.settings.num_keys**2)
        model = apply_retrofit(
            self.llama, Retrofit(routing, empty, replace(self.settings, layer=layer), bos_token_id=None)
        )
        (memory,) = model.memory_layers().values()
        found = []
        for temperature in TEMPERATURES:
            memory.temperature = temperature
            background = count_slots(model, self.material.documents, self.states[layer])
            found.append(self._measured(layer, memory, background))
        return found

    @torch.no_grad()
    def _measured(
        self, layer: int, memory: MemoryLayer, background: BackgroundStatistics
    ) -> tuple[RoutingTrial, Tensor]:
        routing = memory.route_windows(self.asked[layer].flatten(1))
        sizes = [len(owners) for owners in self.owners]
        parts = zip(self.owners, *(part.split(sizes) for part in routing), strict=True)
        taught, decoys, unseen, look_alikes = (SubjectRouting(*part) for part in parts)
        told = self.material.taught
        given = torch.tensor([row.given for row in told.rows])
        selector = SlotSelector(
            taught,
            decoys,
            background,
            told.subject_tails(),
            given=given,
            heads=memory.heads,
            settings=SelectionSettings(),
        )
        selection = selector.select(torch.empty(0, dtype=torch.int64))
        opened = _open_owner(selection, unseen, memory.heads) == unseen.owners
        leaked = _open_owner(selection, look_alikes, memory.heads) >= 0
        trial = RoutingTrial(
            layer,
            memory.temperature,
            float(opened.float().mean()),
            float(leaked.float().mean()),
            len(opened),
            len(leaked),
        )
        names = len(told.subjects)
        score = means_by_owner(opened, unseen.owners, names) - LEAK_COST * means_by_owner(
            leaked, look_alikes.owners, names
        )
        return trial, score


def _open_owner(selection: Selection, routing: SubjectRouting, heads: int) -> Tensor:
    """Whose gate opens at each row, int64 [rows]; -1 = nobody's."""
    written = selection.blank_overlay(value_dim=1)
    found = gated_look_ups(written, routing.slots, routing.weights, routing.queries, heads)
    return found.best_owner.masked_fill((found.weights == 0).all(-1), -1)
