"""The sealed test set: it opens once per plan, by a token bound to the hash of the plan written before."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from equipoise.core import Case, Split
from equipoise.errors import VaultError
from equipoise.experiment.data import Source, part_cases
from equipoise.workspace import Opening, Workspace

SEALED = ("test", "external")


@dataclass(frozen=True, slots=True)
class Seal:
    """What is written before anything is trained.

    Parameters
    ----------
    plan
        Hash of the plan.
    test_set
        Hash of the images and truths of the sealed parts.
    lock
        SHA-256 of the token that opens it.
    """

    plan: str
    test_set: str
    lock: str


@dataclass(frozen=True, slots=True)
class Vault:
    """The sealed parts of one plan's split."""

    source: Source
    split: Split
    seal: Seal
    truth: Callable[[Case], Case]

    def cases(self, part: str, token: str) -> list[Case]:
        """Return the cases of a sealed part; any other token than the plan's raises `VaultError`."""
        if not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), self.seal.lock):
            raise VaultError(
                "the test set is sealed and this token does not open it",
                why="a test set that was looked at before the plan was final can no longer be a test set",
                fix="finish the plan's training with `equipoise resume`; the vault then opens by itself, once",
            )
        if part not in SEALED:
            raise VaultError(f"the vault holds {SEALED}, not {part!r}")
        return [self.truth(case) for case in part_cases(self.source, self.split.parts()[part])]


def seal(workspace: Workspace, plan: str, test_set: str) -> Seal:
    """Return the seal of a plan in this workspace."""
    return Seal(plan, test_set, hashlib.sha256(_token(workspace.path, plan).encode()).hexdigest())


def open_vault(workspace: Workspace, sealed: Seal, test_set: str, again: bool = False) -> tuple[str, Opening]:
    """Record the opening and return the token with the opening's number.

    A test set that was changed after the sealing raises `VaultError`. Opening again under the same plan is a resume and
    gives the first opening back.

    Parameters
    ----------
    again
        For the report of a plan that has opened the vault already: nothing new is recorded, and a plan that has not
        opened it raises `VaultError`.
    """
    if sealed.test_set != test_set:
        raise VaultError(
            "the test images or their truth are not those that were sealed with the plan",
            why="a test set chosen after the sealing can be chosen to please",
            fix="restore the files, or start a new workspace for the changed data",
        )
    if sealed != seal(workspace, sealed.plan, test_set):
        raise VaultError("this plan was not sealed in this workspace", fix="run `equipoise compare PLAN` first")
    if again:
        for opening in workspace.openings(test_set):
            if opening.plan == sealed.plan:
                return _token(workspace.path, sealed.plan), opening
        raise VaultError("this plan has not opened its test set yet", fix="run `equipoise resume`")
    opening = workspace.open_test_set(test_set, sealed.plan)
    workspace.log("opened the test set", plan=sealed.plan, test_set=test_set, number=opening.number)
    return _token(workspace.path, sealed.plan), opening


def _token(folder: Path, plan: str) -> str:
    """Return the plan's token: bound to its hash and to a secret of the workspace."""
    path = folder / "vault.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return hmac.new(path.read_text().encode(), plan.encode(), "sha256").hexdigest()
