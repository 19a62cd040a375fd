"""What plays Azure's own workers in a rehearsal: the fine-tuning service, a model's server, and the flow around them.

The emulator starts `trainer` and `server` as child processes, as command lines that it was given; it knows nothing of
azft, and azft's modes know nothing of these.
"""
