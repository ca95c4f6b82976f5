"""Keys of ours: the root key, the sealer under it, the device CA's key, and the built-in TLS certificate.

Implements ports.sealer and ports.signer; app and cli open and create them, nobody else may call.
"""
