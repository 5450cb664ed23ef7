"""What a training will cost, said before it begins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What one fit takes on this machine, from a short probe: within a third, if nothing else computes meanwhile.

    Parameters
    ----------
    seconds
        Wall-clock time at most: of all steps, although held-out images may end the training before.
    memory_bytes
        Beside what the process has already taken: of the device where it computes on one, else of the machine.
    disk_bytes
        Of the checkpoint and the grids at its end, where they are kept; half-written, a checkpoint is there twice.
    choices
        What the free memory changed of the preset, as a plan would state it: ``"at_once = 2"``.
    """

    seconds: float
    memory_bytes: float
    disk_bytes: float
    choices: tuple[str, ...] = ()

    def __add__(self, later: Cost) -> Cost:
        """Return the cost of one stage and a later one: they share the memory, not the time."""
        return Cost(
            self.seconds + later.seconds,
            max(self.memory_bytes, later.memory_bytes),
            self.disk_bytes + later.disk_bytes,
            tuple(dict.fromkeys((*self.choices, *later.choices))),
        )


__all__ = ["Cost"]
