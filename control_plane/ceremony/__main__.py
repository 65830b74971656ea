from control_plane.ceremony.program import main

raise SystemExit(main())
