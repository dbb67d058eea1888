"""The programs that propose, all under one contract."""
