from sync.ingest.program import main

main()
