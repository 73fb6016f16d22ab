"""Whatever sees more than one node: engines, exploration, replay, postmortem, the command."""
