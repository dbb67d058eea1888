"""The drills beside the attack suite: what is tried, and the test that tries it."""

from dataclasses import dataclass

from ralph.adapters.sandbox import SandboxLevel

SHIM, LIMITS = "adapters/test_shim.py", "adapters/test_limits.py"
ARTIFACTS, LOOKING_AHEAD = "adapters/scorer/test_artifacts.py", "adapters/scorer/test_looking_ahead.py"
LEVELS = frozenset(SandboxLevel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One line of the table; `test` is `file::name` below tests/, `levels` those at which it is covered."""

    group: str
    name: str
    test: str
    levels: frozenset[SandboxLevel] = LEVELS


def _drills(group: str, file: str, tests: dict[str, str]) -> list[Drill]:
    return [Drill(group=group, name=name, test=f"{file}::test_{test}") for name, test in tests.items()]


DRILLS = [
    *_drills(
        "Nothing survives",
        SHIM,
        {
            "a request, whatever the payload did": "nothing_survives_a_request",
            "a deadline": "nothing_survives_a_deadline",
            "a normal end": "nothing_survives_a_normal_end",
            "kill -9 of the supervisor": "nothing_survives_the_supervisor",
            "kill -9 right after the start": "nothing_survives_a_supervisor_that_dies_right_after_the_start",
            "a payload that kills its keeper": "nothing_survives_a_payload_that_kills_its_shim",
            "a payload that stops its keeper": "a_payload_that_stops_its_shim_does_not_outlive_its_deadline",
        },
    ),
    *_drills(
        "Limits",
        LIMITS,
        {
            "memory of a whole tree": "memory_is_counted_over_the_whole_tree",
            "fork bombs and threads": "processes_and_threads_are_counted_over_the_whole_tree",
            "folders": "the_folders_may_grow_so_far",
            "files with holes": "no_file_is_larger_than_the_limit_holes_included",
            "open files": "open_files_are_limited",
            "core dumps": "no_core_is_dumped",
            "logs": "a_log_flood_is_ended_and_its_first_and_last_words_are_kept",
            "a machine that runs low": "on_a_machine_that_runs_low_a_small_payload_is_ended_by_no_fault_of_its_own",
        },
    ),
    Drill(
        group="Limits",
        name="storms of root's in sessions of their own, at once",
        test=f"{LIMITS}::test_in_the_sandbox_a_storm_in_sessions_of_its_own_ends_at_once",
        levels=frozenset({SandboxLevel.BWRAP}),
    ),
    *_drills(
        "Graphs that cheat",
        LOOKING_AHEAD,
        {
            "look ahead": "a_graph_that_looks_ahead_is_invalid",
            "remember earlier calls": "a_graph_that_counts_its_calls_counts_to_one_only",
            "write to their weights": "writing_to_a_weight_behind_the_signature_leaves_no_trace",
        },
    ),
    *_drills(
        "Graphs that cheat",
        ARTIFACTS,
        {
            "carry a pickle": "a_pickle_in_the_sample_inputs_is_never_opened",
            "carry a pickle as weight": "a_weight_stored_as_a_pickle_is_invalid",
            "call operators of their own": "only_torchs_own_operators_are_run",
            "carry code in their shapes": "symbolic_shapes_are_not_evaluated",
            "nest them in a subgraph": "nested_code_in_a_subgraph_is_found",
        },
    ),
]
