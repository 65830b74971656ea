"""python -m tests.benchmarks loop [--json FILE] [--demo FILE] [--quick]"""

from tests.benchmarks.loop import main

raise SystemExit(main())
