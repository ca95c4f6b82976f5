"""Devices and an Apple that never were, to rehearse device management against any MDM server.

A package of its own: it imports nothing of `ostiary`, so a misreading of the protocol cannot hide in both.

`device.Device` is one device, `personality.PERSONALITIES` the kinds it can be, `levers.Levers` what a tester may
pull on it; `causes` has every reason to enroll again as one call, and `Device.truth` what is really in force on a
device, to be compared with what a server believes. `apns` is the push service, `world` puts both together. `python -m ostiary_sim` runs them alone.
"""
