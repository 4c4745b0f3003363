"""The command: words to options, events to a display, errors to one line and an exit code."""
