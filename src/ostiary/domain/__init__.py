"""What we know: enrollments, tokens, commands, and the rules that change them, as pure transitions.

Pure: ports, services, storage and web may call; a rule gets the moment and fresh ids as arguments.
"""
