"""The bench: Yika against honest peers on the same machine and the same database. See bench/README.md."""
