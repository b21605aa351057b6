"""What exists in the sandbox and nowhere else: invented people, a movable clock, and their routes."""
