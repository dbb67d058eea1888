"""What aider says of its cost; the lines are those of version 0.86."""

from ralph.adapters.agents.presets.aider import read


def test_aiders_messages_add_up_and_its_last_cost_is_that_of_all() -> None:
    report = read(
        "Tokens: 8.4k sent, 950 received. Cost: $0.04 message, $0.04 session.\n"
        "Applied edit to train.py\n"
        "Tokens: 1,500 sent, 1.2M cache write, 2k received. Cost: $0.02 message, $0.06 session.\n"
    )
    assert (report.tokens, report.usd, report.calls) == (8400 + 950 + 1500 + 2000, 0.06, 2)
    assert read("Tokens: 1.0k sent, 50 received.\n").tokens == 1050
