"""arena.toml, read and checked. Every key has a default that is right for most.

An unknown key is an error that lists the known ones. The keys are described in docs/configuration.md; a test holds
that page to this module.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ralph.errors import ConfigError
from ralph.model import Direction, ScoreMode


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArenaTable(_Table):
    """[arena]: what is optimised."""

    name: str = Field(default="arena", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    metric: str = Field(default="val_bpb", min_length=1)
    direction: Direction = Direction.MIN
    editable: tuple[str, ...] = Field(default=("train.py",), min_length=1)
    program: str = "program.md"

    @field_validator("editable")
    @classmethod
    def _stays_inside(cls, globs: tuple[str, ...]) -> tuple[str, ...]:
        for glob in globs:
            if glob.startswith("/") or ".." in Path(glob).parts:
                raise ValueError(f"{glob!r} leaves the arena's folder; editable globs are relative to it")
        return globs


class RunTable(_Table):
    """[run]: the command and its clock. Seconds are wall clock."""

    command: str = "python train.py"
    budget_s: float = Field(default=300.0, gt=0)
    gate: bool = False
    early: bool = False
    setup_s: float = Field(default=300.0, gt=0)
    export_s: float = Field(default=60.0, ge=0)
    grace_s: float = Field(default=10.0, ge=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|none|cuda(:\d+)?)$")
    env: dict[str, str] = Field(default_factory=dict)
    compiled_mb: float = Field(default=2000.0, ge=0)

    @model_validator(mode="after")
    def _asks_for_its_device(self) -> Self:
        if self.early and not self.gate:
            raise ValueError("early = true needs gate = true: a run asks for its device over the starting gun")
        return self


class DataTable(_Table):
    """[data]: an optional command that prepares data once; its own options are its own business."""

    command: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


class ScoreTable(_Table):
    """[score]: where the number comes from and what range is believable."""

    mode: ScoreMode = ScoreMode.REPORTED
    command: str = ""
    audit_command: str = ""
    bounds: tuple[float, float] | None = None
    timeout_s: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode is ScoreMode.COMMAND and not self.command:
            raise ValueError('mode = "command" needs score.command, the program that answers with JSON')
        if self.mode is not ScoreMode.COMMAND and self.audit_command:
            raise ValueError('audit_command goes with mode = "command"; a sealed score is audited by itself')
        if self.bounds is not None and self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"bounds = [{self.bounds[0]}, {self.bounds[1]}] is empty; write [low, high]")
        return self


class KeepTable(_Table):
    """[keep]: how sure a keep must be."""

    false_keep_rate: float = Field(default=0.05, gt=0, lt=0.5)
    max_runs: int = Field(default=3, ge=1, le=32)
    min_effect: float = Field(default=0.0, ge=0)


class PruneTable(_Table):
    """[prune]: stopping hopeless runs early, in an arena with the starting gun."""

    false_stop_rate: float = Field(default=0.1, ge=0, le=0.5)
    spot_checks: float = Field(default=0.1, gt=0, le=1)


class LanesTable(_Table):
    """[lanes]: runs side by side. `devices` are GPUs, by default all of one kind that run.device allows; `count` lanes
    where run.device = "none".
    """

    devices: tuple[Annotated[str, Field(pattern=r"^cuda:\d+$")], ...] = ()
    count: int = Field(default=1, ge=1, le=1024)

    @field_validator("devices")
    @classmethod
    def _once_each(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(devices)) != len(devices):
            raise ValueError("names a device twice; a device takes one run at a time")
        return devices


class AgentTable(_Table):
    """[agent]: who proposes, and how many think ahead while runs go on: by default one where runs are on a GPU."""

    use: str = "tuner"
    mix: dict[str, float] = Field(default_factory=dict)
    policy: Literal["shares", "bandit"] = "shares"
    timeout_s: float = Field(default=900.0, gt=0)
    repairs: int = Field(default=2, ge=0)
    lookahead: int | None = Field(default=None, ge=0, le=1024)
    brief_tokens: int = Field(default=12_000, ge=1_000)

    @field_validator("mix")
    @classmethod
    def _shares(cls, mix: dict[str, float]) -> dict[str, float]:
        if mix and (min(mix.values()) < 0 or sum(mix.values()) <= 0):
            raise ValueError("shares in mix are not negative and not all zero")
        return mix


class AgentEntry(_Table):
    """[agents.NAME]: one agent by name. Caps are for the whole campaign; 0 is no cap.

    `key` names the variable of the supervisor's environment that holds the provider's key, by default the provider's
    usual one. `price` is in dollars per million tokens, read and written, for a model whose price is not known.
    """

    kind: Literal["tuner", "command", "scripted", "anthropic", "openai"]
    command: str = ""
    preset: Literal["", "claude", "codex", "gemini", "opencode", "aider", "pi"] = ""
    script: str = ""
    env: tuple[str, ...] = ()
    model: str = ""
    base_url: str = ""
    api: Literal["responses", "chat"] = "responses"
    key: str = ""
    login: Literal["key", "subscription"] = "key"
    max_usd: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=0, ge=0)
    price: tuple[float, float] | None = None

    @property
    def paid(self) -> bool:
        """Whether it calls a provider."""
        return self.kind in ("anthropic", "openai") or bool(self.preset)

    @property
    def behind_gateway(self) -> bool:
        """Whether its calls go through a gateway, which holds its key."""
        return self.paid and self.login == "key"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "command" and not (self.command or self.preset):
            raise ValueError('kind = "command" needs command, the program to start, or preset, one that ralph knows')
        if self.kind in ("anthropic", "openai") and not self.model:
            raise ValueError(f'kind = "{self.kind}" needs model, the name that the provider gives it')
        if self.preset and self.kind != "command":
            raise ValueError('preset goes with kind = "command"')
        if self.kind == "scripted" and not self.script:
            raise ValueError('kind = "scripted" needs script, a JSON-lines file of edits to replay')
        return self


class BudgetTable(_Table):
    """[budget]: when to stop by itself; 0 or absent is no limit."""

    experiments: int = Field(default=0, ge=0)
    hours: float = Field(default=0.0, ge=0)
    until: str = Field(default="", pattern=r"^(|([01]?\d|2[0-3]):[0-5]\d)$")
    device_hours: float = Field(default=0.0, ge=0)
    usd: float = Field(default=0.0, ge=0)
    tokens: int = Field(default=0, ge=0)


class DeviceTable(_Table):
    """[device]: when it counts as a run's own. Shares are of 1; 1 is never too much."""

    disturbed_share: float = Field(default=0.15, gt=0, le=1)
    throttled_share: float = Field(default=0.25, gt=0, le=1)
    wait_free_s: float = Field(default=60.0, ge=0)
    memory_used_gib: float = Field(default=1.0, ge=0)


class RecallTable(_Table):
    """[recall]: asking what was tried. `embed_command` turns texts into vectors, for a ranking by meaning as well."""

    embed_command: str = ""


class LimitsTable(_Table):
    """[limits]: what an agent, a run or a scorer may use of the machine; 0 leaves it to the machine's size."""

    memory_gb: float = Field(default=0.0, ge=0)
    processes: int = Field(default=0, ge=0)
    open_files: int = Field(default=0, ge=0)
    log_mb: float = Field(default=256.0, gt=0)
    disk_gb: float = Field(default=0.0, ge=0)
    spare_memory_gb: float = Field(default=0.0, ge=0)
    spare_disk_gb: float = Field(default=1.0, ge=0)


class SandboxTable(_Table):
    """[sandbox]: the level to insist on; auto takes the best this machine allows. And what of the home is shown."""

    level: Literal["auto", "bwrap", "landlock", "none"] = "auto"
    visible: tuple[str, ...] = ()


class Config(_Table):
    """A whole arena.toml."""

    arena: ArenaTable = ArenaTable()
    run: RunTable = RunTable()
    lanes: LanesTable = LanesTable()
    data: DataTable = DataTable()
    score: ScoreTable = ScoreTable()
    keep: KeepTable = KeepTable()
    prune: PruneTable = PruneTable()
    agent: AgentTable = AgentTable()
    agents: dict[str, AgentEntry] = Field(default_factory=dict)
    budget: BudgetTable = BudgetTable()
    limits: LimitsTable = LimitsTable()
    sandbox: SandboxTable = SandboxTable()
    device: DeviceTable = DeviceTable()
    recall: RecallTable = RecallTable()

    @model_validator(mode="after")
    def _agents_known(self) -> Self:
        known = {"tuner", *self.agents}
        for name in self.agent.mix or {self.agent.use: 1.0}:
            if name not in known:
                raise ValueError(
                    f"agent {name!r} is not defined; known: {', '.join(sorted(known))}. Add [agents.{name}]"
                )
        if self.score.mode is ScoreMode.SEALED and not self.data.command:
            raise ValueError('score.mode = "sealed" needs data.command: the scorer reads the data that it prepares')
        return self

    def agent_entry(self, name: str) -> AgentEntry:
        """The entry of an agent in use; the embedded tuner needs none."""
        return self.agents.get(name) or AgentEntry(kind="tuner")


def load(path: Path, device: str | None = None) -> Config:
    """Read arena.toml at `path`; with `device` "cpu" the keys of [run.cpu] replace those of [run].

    Raises:
        ConfigError: naming the file, the key, what is wrong and what is allowed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}. Make one with `ralph init`, or name its folder with --dir") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    return parse(raw, device=device, source=str(path))


def parse(raw: dict[str, Any], device: str | None = None, source: str = "arena.toml") -> Config:
    """Check a table read from TOML. Profiles are merged first, so that a mistake in one is found on any device."""
    raw = {k: dict(v) if isinstance(v, dict) else v for k, v in raw.items()}
    run = raw.get("run", {})
    profile = run.pop("cpu", {}) if isinstance(run, dict) else {}
    try:
        Config.model_validate({**raw, "run": {**run, **profile}})
        chosen = {**run, **profile} if device == "cpu" else run
        return Config.model_validate({**raw, "run": chosen})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(source, item) for item in error.errors())) from None


def _explain(source: str, item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = ", ".join(sorted(_table_at(item["loc"][:-1]).model_fields))
        return f"{source}: unknown key {where!r}. Known here: {known}"
    return f"{source}: {where or 'file'}: {item['msg'].removeprefix('Value error, ')}"


def _table_at(loc: tuple[str | int, ...]) -> type[BaseModel]:
    if not loc:
        return Config
    if loc[0] == "agents":
        return AgentEntry
    table = Config.model_fields[str(loc[0])].annotation
    if not (isinstance(table, type) and issubclass(table, BaseModel)):
        raise TypeError(f"{loc[0]} is not a table")
    return table
