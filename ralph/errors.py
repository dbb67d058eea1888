"""Every error that ralph raises on purpose, and the exit status each one means."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What `ralph loop` tells its parent. A service manager restarts on BUG only."""

    DONE = 0  # a limit was reached or the user stopped it
    BUG = 1
    CONFIG = 2  # the arena or the configuration is wrong
    PARKED = 3  # needs a human


class RalphError(Exception):
    """What happened, to what, and what to do next; shown to the user without a traceback."""

    status = ExitStatus.PARKED


class ConfigError(RalphError):
    """arena.toml, a command line option or the repository does not allow a start."""

    status = ExitStatus.CONFIG


class ArenaChangedError(ConfigError):
    """The arena is not the one the campaign began with, so scores could not be compared."""


class LedgerError(RalphError):
    """The ledger is damaged in a way that must not be repaired silently."""


class LockedError(RalphError):
    """Another supervisor holds this folder."""


class DiskError(RalphError):
    """The disk is too full to go on."""


class GitError(RalphError):
    """git refused something that the loop cannot do without."""


class MovedBranchError(GitError):
    """The campaign's branch is not where the ledger says: somebody else moved it."""


class LeftoverError(RalphError):
    """Processes of an earlier run could not be removed within the time allowed."""


class DeviceError(RalphError):
    """The device is lost, or what holds its memory does not go."""


class RefusedError(RalphError):
    """A proposal breaks a rule; the message is the reason an agent and a human get to read."""
