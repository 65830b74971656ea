from control_plane.signer.program import main

raise SystemExit(main())
