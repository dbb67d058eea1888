"""Pure decisions: no clock, disk, process or randomness in here."""
