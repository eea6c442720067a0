"""Acting and training on Ray: on this machine, or on a cluster. Nothing here is imported unless it is asked for."""
