"""The rules of others: what Apple, the IETF and our peers wrote down, as decoders, encoders and tables.

Pure: domain, services and web may call; nothing here waits, dates, stores or logs.
"""
