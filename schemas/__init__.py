"""The shapes on the wire: a Body comes in and forbids what it does not know, a View goes out and hides nothing by default."""
