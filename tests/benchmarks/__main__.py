"""python -m tests.benchmarks {loop,inference,gates} [--json FILE] [--demo FILE]"""

from tests.benchmarks.loop import main

raise SystemExit(main())
