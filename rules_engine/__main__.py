"""`python -m rules_engine` is `camp`."""

from rules_engine.cli.main import main

if __name__ == "__main__":
    main()
