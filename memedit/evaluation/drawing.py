"""How answers are drawn at random: what sampling.py, every respondent and the cache's names agree on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Drawing"]


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn.

    Args:
        num_samples: Answers per prompt, at least 1.
        temperature: The logits are divided by it, above 0.
        seed: The same seed and prompt give the same answers, up to rounding.
        top_k: Draw among that many most probable tokens only; None = among all.
        max_new_tokens: Most tokens per answer, at least 1.
        natural_stop: True = an end token or a newline ends an answer, as in generate_answers. False = every
            text is max_new_tokens long: end tokens are never drawn, and newlines are text.

    Raises:
        ValueError: a number is out of range.
    """

    num_samples: int
    temperature: float
    seed: int = 0
    top_k: int | None = None
    max_new_tokens: int = 16
    natural_stop: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        counts = {"num_samples": self.num_samples, "max_new_tokens": self.max_new_tokens, "top_k": self.top_k}
        for name, number in counts.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"temperature must be above 0, got {self.temperature}; greedy answers come from "
                "generate_answers"
            )
