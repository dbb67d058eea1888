"""What runs are carried out on: leased to one at a time, measured free before, watched meanwhile."""
