"""The command `dsee-compress`: one file a command; parses and prints, decides nothing."""
