"""How much a kill domain uses, looked at from its shim, and which limit it has passed.

A part of the shim's program: imported by file, beside next to nothing. Works without cgroups and without privileges.

Covered: memory of all processes of the domain together, files in its own memory disks included; processes and threads;
the growth of its log and of the folders it may write; what is left of the machine's memory and disk. Covered by limits
that the kernel keeps: open files, the size of any one file, core dumps; an ordinary user's processes.

Not covered: what happens between two looks (some 50 ms; memory is filled at a few GB/s). But for what the machine has
left: memory in files that nobody has mapped and that lie on no disk of its own (memfd, a shared /dev/shm); files
deleted while open; folders that an ordinary user's payload made unreadable, or deeper than the name of a path goes.
"""
# ruff: noqa: PTH116, PTH123, PTH208

import os
import resource
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Excess = tuple[str, str]  # kind of limit, and in words

SHORTEST_S, LONGEST_S = 0.05, 0.5  # between two looks
COST_SHARE = 100  # a look may take one part in so many of the time until the next
WALK_S, WALK_SHARE = 1.0, 50  # the same for walks through folders
EXACT_SHARE = 20  # the same for exact measurements of memory, which hold the measured process up
DISKS_S = 0.5  # until memory disks are looked for again
DISKS_ASKED = 8  # of the newest processes, of which some may just have ended
FAULTLESS_S = 1.0  # a small domain waits for so long for a large one to be ended
LEAST_FILE = 4096  # bytes that any file takes, so that empty ones count
MOST_OPEN = 65_536


def confine(limits: "dict[str, int | None]") -> None:
    """Set those limits that the kernel keeps, on this process and all that it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits["tasks"] is not None and os.geteuid() != 0:  # for root this limit means nothing
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = user_tasks() + limits["tasks"] * 3 // 2  # beyond what a look must see
        most = most if hard == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = MOST_OPEN if hard == resource.RLIM_INFINITY else hard
    wanted = limits["open_files"]
    most = min(hard, wanted or MOST_OPEN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if wanted or soft > most or soft < 0 else soft, most))
    if limits["disk_bytes"] is not None:
        largest = max(limits["disk_bytes"], limits["memory_bytes"] or 0)  # shared memory is a file, too
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        largest = largest if hard == resource.RLIM_INFINITY else min(hard, largest)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def user_tasks() -> int:
    """Processes and threads that this user has already, and that count for the same limit."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


class Meter:
    """Looks at one domain. `wait_s` is when to look again."""

    def __init__(self, limits: "dict[str, int | None]", folders: "list[str]") -> None:
        self.limits, self.folders = limits, folders
        self.wait_s = SHORTEST_S
        self.memory = 0
        self.disks: dict[int, str] = {}  # mount points of its own memory disks, by device
        self.exact_at = self.walk_at = self.disks_at = 0.0
        self.low_since: float | None = None
        self.before = self.grown = 0
        self.walked = False
        self.free_at_start = self.free_at_walk = free_bytes(folders[0]) if folders else 0

    def look(self, pids: "list[int]") -> "Excess | None":
        """The limit that these processes, the whole domain, have passed; None while there is none."""
        began = time.monotonic()
        most = self.limits["tasks"]
        if most is not None and len(pids) > most:  # a storm: no time to look at each
            return self.task_excess(len(pids))
        tasks, anonymous, shared = usage(pids)
        self.memory = anonymous + max(shared, self.on_memory_disks(pids))
        found = (
            self.log_excess()
            or self.task_excess(tasks)
            or self.memory_excess(pids, began)
            or self.disk_excess(began)
            or self.machine_excess(began)
        )
        crowded = self.limits["tasks"] is not None and tasks > self.limits["tasks"] // 2
        cost_s = time.monotonic() - began
        self.wait_s = SHORTEST_S if crowded else min(LONGEST_S, max(SHORTEST_S, cost_s * COST_SHARE))
        return found

    def log_excess(self) -> "Excess | None":
        """The log is our standard output, too."""
        limit = self.limits["log_bytes"]
        if limit is None or os.fstat(1).st_size <= limit:
            return None
        return "output", f"log over {amount(limit)}"

    def task_excess(self, tasks: int) -> "Excess | None":
        """Of so many processes and threads."""
        limit = self.limits["tasks"]
        if limit is None or tasks <= limit:
            return None
        return "processes", f"{tasks} processes and threads at once and maybe more; the limit is {limit}"

    def memory_excess(self, pids: "list[int]", now: float) -> "Excess | None":
        """What processes share is counted more than once at first; only beyond the limit is it told apart."""
        limit = self.limits["memory_bytes"]
        if limit is None or self.memory <= limit or now < self.exact_at:
            return None
        parts = [exact(pid) for pid in pids]
        shared = max(sum(part[1] for part in parts), self.on_memory_disks(pids))
        self.memory = sum(part[0] for part in parts) + shared
        self.exact_at = time.monotonic() + (time.monotonic() - now) * EXACT_SHARE
        if self.memory <= limit:
            return None
        return "memory", f"{amount(self.memory)} of memory; the limit is {amount(limit)}"

    def disk_excess(self, now: float) -> "Excess | None":
        """The folders are measured when it is time, or when the disk has lost much since."""
        limit = self.limits["disk_bytes"]
        if limit is None or not self.folders:
            return None
        free = free_bytes(self.folders[0])
        if now >= self.walk_at or self.free_at_walk - free > limit // 4:
            self.walk(free)
        if self.grown <= limit:
            return None
        return "disk", f"its folders grew by {amount(self.grown)}; the limit is {amount(limit)}"

    def walk(self, free: int) -> None:
        """Measure the folders; the first time is what they had before."""
        began = time.monotonic()
        size = sum(sizes(self.folders))
        if not self.walked:
            self.walked, self.before = True, size
        self.grown, self.free_at_walk = size - self.before, free
        ended = time.monotonic()
        self.walk_at = ended + max(WALK_S, (ended - began) * WALK_SHARE)

    def machine_excess(self, now: float) -> "Excess | None":
        """The machine is low: ended is the one that has most of it, the others only if that does not help soon."""
        spare, found = self.limits["spare_memory_bytes"], None
        if spare is not None:
            available, total = machine_memory()
            if available < spare:
                large = self.memory > (total - available) / 2
                left = f"the machine has {amount(available)} of memory left"
                found = ("largest" if large else "machine"), f"{left}, and this has {amount(self.memory)}"
        spare = self.limits["spare_disk_bytes"]
        if found is None and spare is not None and self.folders:
            free = free_bytes(self.folders[0])
            if free < spare:
                self.walk(free)
                own = self.grown > (self.free_at_start - free) / 2
                left = f"the disk has {amount(free)} left"
                found = ("disk" if own else "machine"), f"{left}, and this took {amount(max(0, self.grown))} of it"
        if found is None:
            self.low_since = None
        elif found[0] == "machine":
            self.low_since = now if self.low_since is None else self.low_since
            return found if now - self.low_since >= FAULTLESS_S else None
        return found

    def on_memory_disks(self, pids: "list[int]") -> int:
        """Bytes of files on memory disks that only this domain has.

        Which there are is asked again and again: a sandbox under construction has none yet, or moves them.
        """
        now = time.monotonic()
        if pids and now >= self.disks_at:
            asked = (memory_disks(pid) for pid in reversed(pids[-DISKS_ASKED:]))
            self.disks, self.disks_at = next(filter(None, asked), self.disks), now + DISKS_S
        for pid in reversed(pids) if self.disks else ():
            try:
                return sum(used(f"/proc/{pid}/root{place}", device) for device, place in self.disks.items())
            except OSError:
                continue  # it has just ended, or is not in there
        return 0


def usage(pids: "list[int]") -> "tuple[int, int, int]":
    """Tasks, bytes of anonymous memory and bytes of shared memory; what processes share counts for each of them."""
    tasks = anonymous = shared = 0
    for pid in pids:
        fields = table(f"/proc/{pid}/status")
        tasks += int(fields.get(b"Threads", b"1"))
        anonymous += kilobytes(fields, b"RssAnon") + kilobytes(fields, b"HugetlbPages")
        shared += kilobytes(fields, b"RssShmem")
    return tasks, anonymous, shared


def exact(pid: int) -> "tuple[int, int]":
    """Bytes of anonymous and of shared memory, what is shared divided among those who share it."""
    fields = table(f"/proc/{pid}/smaps_rollup")
    if b"Pss_Anon" in fields:
        return kilobytes(fields, b"Pss_Anon") + kilobytes(fields, b"Private_Hugetlb"), kilobytes(fields, b"Pss_Shmem")
    return usage([pid])[1:]  # an older kernel, or a process that will not be looked into


def table(path: str) -> "dict[bytes, bytes]":
    """A file of `Name: value` lines; empty for a process that is gone."""
    try:
        with open(path, "rb") as file:
            return dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return {}


def kilobytes(fields: "dict[bytes, bytes]", name: bytes) -> int:
    """A value such as ` 12 kB`, in bytes."""
    return int(fields.get(name, b"0").split()[0]) * 1024


def machine_memory() -> "tuple[int, int]":
    """Bytes available without swapping, and all that there are."""
    fields = table("/proc/meminfo")
    return kilobytes(fields, b"MemAvailable"), kilobytes(fields, b"MemTotal")


def memory_disks(pid: int) -> "dict[int, str]":
    """Mount points of tmpfs, by device, that this process sees and we do not."""
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):  # noqa: PTH115
            return {}
        own = tmpfs("self")
        return {device: place for device, place in tmpfs(str(pid)).items() if device not in own}
    except OSError:
        return {}


def tmpfs(process: str) -> "dict[int, str]":
    """Mount points of tmpfs by device."""
    found: dict[int, str] = {}
    with open(f"/proc/{process}/mountinfo", "rb") as file:
        for line in file:
            mount, _, kind = line.partition(b" - ")
            if kind.startswith(b"tmpfs "):
                fields = mount.split(b" ")
                device = os.makedev(*map(int, fields[2].split(b":")))
                place = fields[4].decode("unicode_escape").encode("latin-1")  # blanks are written \040
                found.setdefault(device, os.fsdecode(place))
    return found


def used(place: str, device: int) -> int:
    """Bytes in use on the disk mounted at `place`. Raises FileNotFoundError if that is another one by now."""
    if os.stat(place).st_dev != device:
        raise FileNotFoundError(place)
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def sizes(folders: "list[str]") -> "Iterator[int]":
    """Bytes on disk of everything below."""
    waiting = list(folders)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        yield max(LEAST_FILE, entry.stat(follow_symlinks=False).st_blocks * 512)
                    except OSError:
                        continue  # it has just gone
        except OSError:
            continue


def free_bytes(folder: str) -> int:
    """Bytes free for us on the disk of a folder; none to speak of where it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize


def amount(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
