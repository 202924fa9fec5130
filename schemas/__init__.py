"""The contracts: what may stand on each topic, in which units, under which key. Imports nothing of ours."""
