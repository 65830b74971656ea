"""python -m deploy.local demo|up"""

from deploy.local.program import main

raise SystemExit(main())
