"""What we promise about isolation, carried out: `python -m drills`."""
