"""The command line: a file a command, each parses, calls one function of `azft.api`, and renders. No logic of its own."""
