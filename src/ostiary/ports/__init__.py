"""What services ask of the world, as small Protocols shaped by their callers; every implementation passes one suite.

Services, worker and app may call; storage, outward and keys implement.
"""
