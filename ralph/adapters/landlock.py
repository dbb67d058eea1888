"""The sandbox for machines without bubblewrap: a program that gives up rights for good and becomes another program.

Run by file path, ``python -I -S landlock.py OPTIONS… -- PROGRAM ARGUMENTS…``, and importing next to nothing. Options:
``--hide``, ``--read``, ``--write``, ``--device`` PATH, as often as needed, of which the innermost decides about what
is below it; ``--package PATH`` of a Python package that must stay importable; ``--network``, or ``--port N`` of the one
TCP port that may be connected to. Status 126, and why, if the kernel refuses.

Landlock (https://docs.kernel.org/userspace-api/landlock.html) can only allow, and what is allowed at a folder is
allowed below it. So around what is hidden its siblings are allowed one by one, and a folder that holds something hidden
cannot be listed itself. What a payload may do is all decided here, before it starts: a file made later beside a hidden
one is out of its sight.

Covered: reading and executing what is hidden, listing it; every write, truncation, removal or renaming outside the
writable folders; device nodes but those named; raw disks and memory, as root, too; processes outside: their memory,
descriptors and environment, and (ABI 6, Linux 6.12) signals to them and abstract Unix sockets; capabilities; without
network, every socket but Unix ones (seccomp), the loopback included, or TCP to other ports than the one named (ABI 4).
Not covered: names, sizes and times of hidden files (stat), their modes, owners and times (chmod, chown, utime, as far
as their owner is us); names and command lines of processes; Unix sockets that are files; files left in /dev/shm;
signals before ABI 6; with a port, connections from outside to one that the kernel chose (listen without bind).
"""
# Neither pathlib nor socket: an agent waits for this to start.
# ruff: noqa: PTH112, PTH118, PTH120

import ctypes
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Instruction = tuple[int, int, int, int]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
VERSION_FLAG, PATH_BENEATH, NET_PORT = 1, 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # rights by the ABI that brought them
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

NOTHING = 0
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = KNOWN[3] & ~(MAKE_CHAR | MAKE_BLOCK)
DEVICE = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV
MODES = {"--hide": NOTHING, "--read": READ, "--write": WRITE, "--device": DEVICE}

BIND_TCP, CONNECT_TCP = 1, 2
SCOPES = 3  # abstract Unix sockets, signals
ABI_TCP, ABI_SCOPES = 4, 6

PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 22, 38, 47
CAPABILITY_VERSION = 0x20080522

# Architecture token of the kernel and numbers of: socket, socketpair, sendto, sendmsg, sendmmsg, io_uring_setup.
ARCHITECTURES = {
    "x86_64": (0xC000003E, (41, 53, 44, 46, 307, 425)),
    "aarch64": (0xC00000B7, (198, 199, 206, 211, 269, 425)),
}
X32_CALLS = 0x40000000  # x86_64 has every call twice
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, DENY, MISSING = 0x7FFF0000, 0x00050000 | 13, 0x00050000 | 38  # EACCES, ENOSYS
UNIX, INET, INET6, STREAM, STREAM_MASK, TCP = 1, 2, 10, 1, 0xF, 6
FASTOPEN = 0x20000000  # connects without asking Landlock

libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Version of Landlock that the kernel has; 0 if none, or if it is switched off."""
    version: int = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    return max(0, version)


def architecture() -> "tuple[int, tuple[int, ...]] | None":
    """What the filter of system calls needs to know; None where nobody has written it down."""
    return ARCHITECTURES.get(os.uname().machine)


def rights_of(version: int) -> int:
    """All that this version can deny."""
    return max(rights for since, rights in KNOWN.items() if since <= version)


def grants(place: str, mode: int, named: "dict[str, int]") -> "Iterator[tuple[str, int]]":
    """Paths with the rights to allow there, so that everything below `place` has `mode`, but for what is named."""
    prefix = place.rstrip("/") + "/"
    below = [path for path in named if path.startswith(prefix)]
    if mode and any(mode & ~named[path] for path in below):  # something below may do less: allow its siblings
        try:
            entries = sorted(os.listdir(place))  # noqa: PTH208
        except OSError:
            entries = []
        for name in entries:
            child = prefix + name
            if not os.path.islink(child):  # noqa: PTH114 - where it leads to decides
                yield from grants(child, named.get(child, mode), named)
        return
    if mode:
        yield place, mode
    for path in below:
        if not any(path.startswith(other + "/") for other in below if other != path):
            yield from grants(path, named[path], named)


def ruleset(named: "dict[str, int]", port: "int | None", *, network: bool, version: int) -> int:
    """A descriptor of the rules. Raises OSError if the kernel refuses them."""
    handled = rights_of(version)
    tcp = BIND_TCP | CONNECT_TCP if version >= ABI_TCP and not network else 0
    words = [handled] + ([tcp] if version >= ABI_TCP else []) + ([SCOPES] if version >= ABI_SCOPES else [])
    attributes = struct.pack(f"{len(words)}Q", *words)
    rules = checked("landlock_create_ruleset", CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path, mode in grants("/", READ, named):
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or not ours to see
        allowed = mode & handled & (-1 if os.path.isdir(path) else OF_FILES)
        try:
            if allowed:
                rule = struct.pack("=Qi", allowed, fd)
                checked(f"the rule for {path}", ADD_RULE, rules, PATH_BENEATH, rule, 0)
        finally:
            os.close(fd)
    if port is not None and tcp:
        checked(f"the rule for port {port}", ADD_RULE, rules, NET_PORT, struct.pack("=QQ", CONNECT_TCP, port), 0)
    return rules


def checked(what: str, *call: "int | bytes | ctypes.c_size_t") -> int:
    """A system call. Raises OSError."""
    result: int = libc.syscall(*call)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def argument(number: int) -> "Instruction":
    """Load the lower half of an argument of the call: all that the kernel itself looks at here."""
    return LOAD, 0, 0, 16 + 8 * number


def no_network(token: int, numbers: "tuple[int, ...]", *, tcp: bool) -> "list[Instruction]":
    """A filter of system calls that leaves Unix sockets, and TCP if asked; what else there is has no socket.

    Without it UDP, raw, netlink and vsock ones are open: Landlock knows TCP alone.
    """
    socket, socketpair, sendto, sendmsg, sendmmsg, io_uring = numbers
    deny, allow = (RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW)
    only_unix = [argument(0), (EQUAL, 1, 0, UNIX), deny, allow]
    with_tcp = [  # a jump counts the instructions that it leaves out
        argument(0), (EQUAL, 8, 0, UNIX), (EQUAL, 1, 0, INET), (EQUAL, 0, 7, INET6),
        argument(1), (AND, 0, 0, STREAM_MASK), (EQUAL, 0, 4, STREAM),
        argument(2), (EQUAL, 1, 0, TCP), (EQUAL, 0, 1, 0), allow, deny,  # no MPTCP, which Landlock does not know
    ]  # fmt: skip
    calls: list[tuple[int, list[Instruction]]] = [
        (socket, with_tcp if tcp else only_unix),
        (socketpair, only_unix),
        (io_uring, [(RETURN, 0, 0, MISSING)]),  # makes sockets out of the filter's sight
    ]
    if tcp:
        for number, flags in ((sendto, 3), (sendmsg, 2), (sendmmsg, 3)):
            calls.append((number, [argument(flags), (ANY_BIT, 0, 1, FASTOPEN), deny, allow]))
    program: list[Instruction] = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, token), deny, (LOAD, 0, 0, 0)]
    if token == ARCHITECTURES["x86_64"][0]:
        program += [(AT_LEAST, 0, 1, X32_CALLS), deny]
    for number, block in calls:
        program += [(EQUAL, 0, len(block), number), *block]
    return [*program, allow]


def filter_calls(program: "list[Instruction]") -> None:
    """Install a filter for this process and all that it starts. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, 2, fprog, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def drop_capabilities() -> None:
    """As root these would undo all the rest: mount, raw devices, the clock, other users' files. Raises OSError."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for users who have none, and behind the last
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    if libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def confine(named: "dict[str, int]", port: "int | None", *, network: bool) -> None:
    """Give up everything that is not named. There is no way back. Raises OSError if the kernel refuses a part of it."""
    version, machine = abi(), architecture()
    if version < 1 or (machine is None and not network):
        raise OSError(0, "this kernel has no Landlock, or nobody wrote down the system calls of this architecture")
    if port is not None and version < ABI_TCP:
        raise OSError(0, f"one port cannot be allowed alone with Landlock ABI {version}; it takes 4, of Linux 6.7")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    rules = ruleset(named, port, network=network, version=version)
    checked("landlock_restrict_self", RESTRICT_SELF, rules, 0)
    os.close(rules)
    drop_capabilities()
    if not network and machine is not None:
        filter_calls(no_network(*machine, tcp=port is not None))


def keep_importable(package: str, named: "dict[str, int]") -> None:
    """A package beside something hidden lies in a folder that cannot be listed, and imports list. So: a link to it."""
    folder, temporary = os.path.dirname(package), os.environ.get("TMPDIR", "")
    if any(mode == NOTHING and path.startswith(folder.rstrip("/") + "/") for path, mode in named.items()):
        links = os.path.join(temporary, ".packages")
        try:
            os.makedirs(links, exist_ok=True)  # noqa: PTH103
            os.symlink(package, os.path.join(links, os.path.basename(package)))  # noqa: PTH119, PTH211
        except OSError:
            pass  # it is there already, or the payload has no folder of its own and imports nothing of ours
        rest = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{links}{os.pathsep}{rest}" if rest else links


def main(arguments: "list[str]") -> None:
    """Confine this process, then become the program."""
    at = arguments.index("--")
    options, argv = iter(arguments[:at]), arguments[at + 1 :]
    named: dict[str, int] = {}
    network, port, package = False, None, ""
    for option in options:
        if option == "--network":
            network = True
        elif option == "--port":
            port = int(next(options))
        elif option == "--package":
            package = next(options)
        else:
            named[next(options)] = MODES[option]
    status = 126
    try:
        if package:
            keep_importable(package, named)
        confine(named, port, network=network)
        status = 127
        os.execvp(argv[0], argv)
    except OSError as error:
        what = "the sandbox cannot be made" if status == 126 else f"could not start {argv[0]!r}"
        os.write(2, f"landlock: {what}: {error.strerror}\n".encode())
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
