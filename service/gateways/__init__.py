"""Other people's systems. Each is an interface here, with one adapter a provider; none is called inside a database write."""
