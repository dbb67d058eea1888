"""What pi prints."""

from ralph.adapters.agents.presets.pi import read


def test_pi_prints_its_last_message_only() -> None:
    assert read("\nAll done.\n").message == "All done."
