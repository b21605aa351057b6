"""Storage: the only folder that knows the driver, one store a noun, and the embedded server for development.

True here: what leaves is a value of the service or a refusal. Never here: a rule about cards or people, and
never a driver's type in a signature that others call.
"""
