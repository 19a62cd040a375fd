"""The command line: a file a command. Each parses, calls one function of `azft.api`, and renders; no logic here."""
