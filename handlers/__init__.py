"""HTTP and nothing else: what arrives becomes values, what leaves becomes JSON; no rule of the domain lives here."""
