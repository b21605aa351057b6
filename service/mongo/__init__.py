"""Storage: the only folder that knows the driver, one store a noun, and the embedded server for development.

True here: what leaves is a value of the service or a refusal. Never here: a rule about cards or people, and
never a driver's type in a signature that others call.
"""

import os

# The threads in which motor waits for the database, one for each operation of its own that is under way. It reads this once,
# when it is imported, which happens nowhere but in this folder; unset, it takes five for each core of the machine, however
# many workers share them. Single writes wait for the journal: ten at a time are a fifth slower than thirty-two, sixty-four
# are no faster (docs/decisions/0013). What requests share waits in threads.py.
os.environ.setdefault("MOTOR_MAX_WORKERS", "32")
