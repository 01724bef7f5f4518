"""The papers' tables as data, and benchmarks. May import tfvc and starter; neither imports this."""
