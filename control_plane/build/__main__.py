from control_plane.build.program import main

raise SystemExit(main())
