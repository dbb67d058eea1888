"""The only place that chooses adapters: from a folder to a world in which a supervisor can work."""

import compileall
import contextlib
import math
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from py_compile import PycInvalidationMode

import ralph
from ralph.adapters import shims
from ralph.adapters.agents.launcher import AgentLauncher
from ralph.adapters.agents.presets.outfit import login_files
from ralph.adapters.clock import ShiftedClock, SystemClock
from ralph.adapters.compiled import CompileCache
from ralph.adapters.control import SystemControl
from ralph.adapters.device.cpu import CpuDevice
from ralph.adapters.device.nvml import NvmlDevice
from ralph.adapters.device.watched import Care, DeviceRunner, DeviceScorer
from ralph.adapters.disk import GB, FolderDisk
from ralph.adapters.domains import Domains
from ralph.adapters.gateway.upstream import require_keys
from ralph.adapters.git import GitRepo
from ralph.adapters.home import homes, programs_in
from ralph.adapters.lanes import LaneRunner, LaneScorer, lane_devices, shown_alone
from ralph.adapters.ledger import FileLedger
from ralph.adapters.limits import MB
from ralph.adapters.lock import FolderLock
from ralph.adapters.machine import compilers, cuda_uuids, device_name, resolve_device
from ralph.adapters.notify import Notifier
from ralph.adapters.papers import FilePapers
from ralph.adapters.prepare import prepare
from ralph.adapters.process import become_subreaper
from ralph.adapters.recall import RecallIndex
from ralph.adapters.redaction import redactor_of
from ralph.adapters.runner import LocalRunner
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.adapters.scoring import ArenaScorer
from ralph.adapters.seal import Seal
from ralph.adapters.snapshot import Snapshots
from ralph.adapters.trash import Trash
from ralph.config import Config, DeviceTable, load
from ralph.core.actions import End
from ralph.core.asking import Cap, Mix
from ralph.core.brief import Options
from ralph.core.decision import KeepRule
from ralph.core.disturbance import Bounds
from ralph.core.lanes import Lanes
from ralph.core.mix import Policy
from ralph.core.pruning import PruneRule
from ralph.core.step import Limits, Rules
from ralph.errors import ConfigError, DiskError
from ralph.front import campaign
from ralph.front.parking import machine_refused, parked_page
from ralph.front.recalling import JudgedExperiments
from ralph.front.watcher import ServiceWatcher, TerminalWatcher
from ralph.layout import Layout
from ralph.model import ScoreMode
from ralph.ports import Device, Runner, Scorer, World
from ralph.supervisor.loop import Supervisor

LAST_PICTURE_S = 10.0  # what the end of a loop waits for its last picture
CRASH_VARIABLE = "RALPH_CRASH_AT"  # drills: kill -9 at the named point, `name` or `name:nth`; `name:nth:STOP` stops
NO_PICTURE_VARIABLE = "RALPH_NO_PICTURE"  # drills: draw nothing, which takes longer than the experiments do
CLOCK_VARIABLE = "RALPH_CLOCK_SHIFT"  # drills: a file with the seconds by which the wall clock is set forward
PICTURE_EVERY_S = 60.0
EARLY_LANES = 8  # with more, what stands ready for them would cost the host more than its start does


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line adds to arena.toml for one loop."""

    max_experiments: int | None = None
    hours: float | None = None
    until: str | None = None
    device_hours: float | None = None
    new: bool = False
    name: str | None = None


def run_loop(layout: Layout, wishes: Wishes) -> End:
    """Everything from an empty state/ to the end of a loop."""
    forget_git_variables()
    notifier = Notifier.taken_from(os.environ)
    try:
        lock = FolderLock(layout.lock)
    except OSError as error:
        raise DiskError(machine_refused(error)) from None
    try:
        become_subreaper()
        make_bytecode(Path(ralph.__file__).parent)
        with parked_page(layout), shims.reserve.kept():
            return _locked_loop(layout, wishes, notifier)
    finally:
        lock.release()


def make_bytecode(package: Path) -> None:
    """Agents, runs and scorers write none: without this, each would compile what it imports, at every start."""
    # what cannot be written is left out
    compileall.compile_dir(package, quiet=2, invalidation_mode=PycInvalidationMode.TIMESTAMP)


def forget_git_variables() -> None:
    """A hook or an editor that started us must not redirect our git."""
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        del os.environ[name]


def _locked_loop(layout: Layout, wishes: Wishes, notifier: Notifier) -> End:
    config = load(layout.arena_toml)
    device = resolve_device(config.run.device)
    config = load(layout.arena_toml, device=device)
    require_keys(config, os.environ)
    redact = redactor_of(os.environ, config)
    trash = Trash(layout.trash, lambda words: papers.log(words))
    repo = GitRepo(layout.arena, layout.trees, config.arena.editable, redact=redact, remove=trash.throw)
    found = campaign.entered(layout, new=wishes.new)
    state = found.state
    spare_bytes = round(config.limits.spare_disk_gb * GB)
    disk = FolderDisk((layout.state, layout.root, repo.top), layout.ballast, spare_bytes, trash.settle)
    if not state.campaign and (shortage := disk.shortage()):
        raise DiskError(shortage)
    disk.lay_ballast()
    domains = domains_of(layout, config, repo)
    lanes = lanes_of(config, device)
    data = prepare(layout, config, device, domains)
    arena = campaign.measure_arena(config=config, repo=repo, device=device, data=data, base=state.base or repo.head())
    if state.campaign:
        campaign.check_same(state, arena)
        campaign.check_fixed_files(layout, arena)
    else:
        campaign.check_clean(repo, arena)
    shift = os.environ.get(CLOCK_VARIABLE)
    clock = ShiftedClock(Path(shift)) if shift else SystemClock()
    opening = campaign.opening(
        state=state, arena=arena, repo=repo, device=device, now=clock.utc(), name=wishes.name, page=layout.learnings
    )
    seal = Seal(layout.sealed(arena.record.hash))
    seal.make(arena.sealed)
    recall = RecallIndex(
        layout.recall,
        campaign=opening.campaign,
        source=JudgedExperiments(lambda: supervisor.state, repo),
        embed_command=config.recall.embed_command,
    )
    compiled = compile_cache(layout, config, device)
    runner, scorer = on_lanes(
        lanes,
        lambda lane: LocalRunner(
            layout=layout,
            repo=repo,
            run=config.run,
            device=lane.name,
            data=data,
            domains=domains,
            redact=redact,
            shown=lane.shown,
            compiled=compiled,
        ),
        lambda lane: ArenaScorer(
            layout=layout,
            config=config,
            device=lane.name,
            data=data,
            seal=seal,
            domains=domains,
            redact=redact,
            shown=lane.shown,
        ),
        config.device,
        layout.root,
    )
    with (
        SystemControl(layout) as control,
        FilePapers(layout, config.arena.program, config.arena.metric, recall, redact, trash.throw) as papers,
        trash,
    ):
        ledger = FileLedger(layout.ledger, clock.utc, redact=redact, on_full=disk.relieve, after=found.mark)
        if ledger.torn:
            papers.log(f"cut {len(ledger.torn)} bytes of a line that was being written when its writer died")
        if not papers.has_tables():
            papers.rebuild(campaign.tables(layout))
        snapshots = Snapshots(layout.snapshot, ledger, found.mark.offset if found.used else 0)
        world = World(
            clock=clock,
            ledger=ledger,
            repo=repo,
            agents=AgentLauncher(
                layout=layout, repo=repo, config=config, seed=seed_of(opening.campaign), domains=domains, redact=redact
            ),
            runner=runner,
            scorer=scorer,
            papers=papers,
            control=control,
            watcher=ServiceWatcher(TerminalWatcher(lambda: supervisor.state), notifier, lambda: supervisor.state),
            disk=disk,
            keep=lambda: snapshots.keep(supervisor.state),
            reach=crash_points(os.environ.get(CRASH_VARIABLE, "")),
            picture_every_s=math.inf if NO_PICTURE_VARIABLE in os.environ else PICTURE_EVERY_S,
            scorer_imports=frozenset({"training", "export"} if device.startswith("cuda") else {"export"}),
            pid=os.getpid(),
            host=socket.gethostname(),
            version=ralph.__version__,
            sandbox=str(domains.level),
        )
        rules = rules_of(config, wishes, clock.utc(), lanes)
        supervisor = Supervisor(world, rules, options_of(config, device), state)
        papers.catch_up()
        ending = supervisor.run(opening)
        stop = supervisor.state.stop_requested
        if stop is None or not stop.now:
            with contextlib.suppress(OSError):  # it says so in the log, for which a full disk has no room
                papers.finish_picture(LAST_PICTURE_S)
        return ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One device, as we call it and as its runs do, and the environment that shows them no other."""

    device: str
    name: str
    shown: Mapping[str, str]


def compile_cache(layout: Layout, config: Config, device: str) -> CompileCache | None:
    """What compilers left for this kind of GPU; None on other devices, where there is little to compile."""
    if not device.startswith("cuda") or not config.run.compiled_mb:
        return None
    return CompileCache(layout.compiled / compilers(device), round(config.run.compiled_mb * MB))


def lanes_of(config: Config, device: str) -> tuple[Lane, ...]:
    """The lanes of this machine. Where there are several GPUs, a run is shown its own."""
    gpus = [device_name(f"cuda:{index}") for index in range(len(cuda_uuids()))] if device.startswith("cuda") else []
    devices = lane_devices(config, device, gpus)
    if len(devices) == 1 or device == "none":
        return tuple(Lane(device=each, name=each, shown={}) for each in devices)
    shown = [shown_alone(cuda_uuids()[int(each.partition(":")[2])]) for each in devices]
    return tuple(
        Lane(device=each, name="cuda:0" if env else each, shown=env) for each, env in zip(devices, shown, strict=True)
    )


def on_lanes(
    lanes: Sequence[Lane],
    run_on: Callable[[Lane], LocalRunner],
    score_on: Callable[[Lane], Scorer],
    table: DeviceTable,
    owner: Path,
) -> tuple[Runner, Scorer]:
    """Runner and scorer of all lanes, each of which has its device for itself; where there is none, they share one."""
    own = lanes[:1] if lanes[0].device == "none" else lanes
    pairs = [on_device(lane.device, run_on(lane), score_on(lane), table, owner) for lane in own]
    if len(pairs) == 1:
        return pairs[0]
    return LaneRunner([runner for runner, _ in pairs]), LaneScorer([scorer for _, scorer in pairs])


def on_device(device: str, runs: LocalRunner, scorer: Scorer, table: DeviceTable, owner: Path) -> tuple[Runner, Scorer]:
    """Runner and scorer that have the device for themselves, as told apart for "cpu", "cuda:N" and "none"."""
    if device == "none":
        return runs, scorer
    care = Care(
        wait_free_s=table.wait_free_s,
        bounds=Bounds(disturbed_share=table.disturbed_share, throttled_share=table.throttled_share),
    )
    watched = device_of(device, table, owner)
    return DeviceRunner(runs, watched, care), DeviceScorer(scorer, watched, care)


def device_of(device: str, table: DeviceTable, owner: Path) -> Device:
    """The CPU, or the GPU that torch calls cuda:N."""
    if device == "cpu":
        return CpuDevice(owner)
    index = int(device.partition(":")[2] or 0)
    return NvmlDevice(
        index=index,
        uuid=dict(enumerate(cuda_uuids())).get(index, ""),
        owner=owner,
        memory_used_bytes=round(table.memory_used_gib * 2**30),
    )


def rules_of(config: Config, wishes: Wishes, now: datetime, lanes: Sequence[Lane]) -> Rules:
    """The configuration as the core wants it; the command line wins over the file."""
    budget, on_gpu = config.budget, lanes[0].device.startswith("cuda")
    lookahead = config.agent.lookahead
    ahead = (len(lanes) if on_gpu else 0) if lookahead is None else lookahead

    def wish(given: float | None, configured: float) -> float:
        return configured if given is None else given

    until = wishes.until if wishes.until is not None else budget.until
    return Rules(
        keep=KeepRule(
            false_keep_rate=config.keep.false_keep_rate,
            max_runs=config.keep.max_runs,
            min_effect=config.keep.min_effect,
            direction=config.arena.direction,
        ),
        prune=PruneRule(
            false_stop_rate=config.prune.false_stop_rate,
            spot_checks=config.prune.spot_checks,
        ),
        repairs=config.agent.repairs,
        mix=mix_of(config),
        gated=config.run.gate,
        in_flight=len(lanes) + ahead,
        lanes=Lanes(
            count=len(lanes),
            early=len(lanes) <= EARLY_LANES,
            scoring=lanes[0].device != "none" or config.score.mode is ScoreMode.REPORTED,
        ),
        limits=Limits(
            experiments=wishes.max_experiments if wishes.max_experiments is not None else budget.experiments or None,
            hours=wish(wishes.hours, budget.hours),
            until=next_time(until, now) if until else None,
            device_hours=wish(wishes.device_hours, budget.device_hours),
        ),
    )


def domains_of(layout: Layout, config: Config, repo: GitRepo) -> Domains:
    """What all children may read, and what none of them finds: our state, and the user's home but for programs.

    Raises:
        ConfigError: sandbox.visible names what does not exist.
    """
    shown = tuple(layout.arena / Path(name).expanduser() for name in config.sandbox.visible)
    for path in shown:
        if not path.exists():
            raise ConfigError(f"arena.toml: sandbox.visible names {path}, which does not exist; make it or take it out")
    programs = [path for home in homes() for path in programs_in(home, os.environ.get("PATH", ""))]
    return Domains(
        sandbox_level(config),
        visible=(layout.root, repo.top, repo.store, *programs, *shown),
        hidden=(layout.state, *homes(), *login_files(os.environ, Path.home())),
        limits=config.limits,
    )


def options_of(config: Config, device: str) -> Options:
    """What a brief says of the arena."""
    return Options(
        device=device,
        budget_s=config.run.budget_s,
        limit_tokens=config.agent.brief_tokens,
        timeout_s=config.agent.timeout_s,
        editable=config.arena.editable,
    )


def mix_of(config: Config) -> Mix:
    """The agents in use and what they may spend; 0 in the configuration is no cap."""
    shares = config.agent.mix or {config.agent.use: 1.0}
    entries = {name: config.agent_entry(name) for name in shares}
    budget = config.budget
    return Mix(
        shares=shares,
        policy=Policy(config.agent.policy),
        paid=frozenset(name for name, entry in entries.items() if entry.paid),
        menders=frozenset(name for name, entry in entries.items() if entry.kind != "tuner"),
        together=Cap(usd=budget.usd or None, tokens=budget.tokens or None),
        each={name: Cap(usd=entry.max_usd or None, tokens=entry.max_tokens or None) for name, entry in entries.items()},
    )


def next_time(text: str, now: datetime) -> datetime:
    """The next moment at which local clocks show `text` (HH:MM).

    Raises:
        ConfigError: when that is no time of day.
    """
    try:
        hour, minute = (int(part) for part in text.split(":"))
        then = now.astimezone().replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError:
        raise ConfigError(f"{text!r} is not a time of day; write HH:MM, as in 08:00") from None
    return then if then > now else then + timedelta(days=1)


def sandbox_level(config: Config) -> SandboxLevel:
    """The level that this machine reaches. Raises ConfigError when the arena insists on more."""
    wanted = config.sandbox.level
    probe = reached(SandboxLevel.BWRAP if wanted == "auto" else SandboxLevel(wanted))
    if wanted not in ("auto", str(probe.level)):
        raise ConfigError(f'sandbox.level = "{wanted}", but this machine reaches {probe.level}: {probe.reason}')
    return probe.level


def crash_points(wanted: str) -> Callable[[str], None]:
    """For drills: a function that kills this process, as kill -9 would, at the nth pass of the wanted point.

    With another signal's name behind that, the process gets that one: one that is stopped lets a drill fill its disk.
    """
    name, nth, by, *_ = (*wanted.split(":"), "", "")
    left, number = int(nth or 1), signal.Signals[f"SIG{by or 'KILL'}"]

    def reach(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    return reach


def seed_of(name: str) -> int:
    """A seed for agents that stays the same over a campaign."""
    return sum((i + 1) * b for i, b in enumerate(name.encode())) % 1_000_003
