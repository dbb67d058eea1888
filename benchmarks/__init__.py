"""What we claim, as programs that compare side by side in one run and print ratios."""
