"""Pushes, really sent: HTTP/2 to APNs with the client certificate of each topic."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, override
from uuid import UUID

import certifi
import pycurl

from ostiary.errors import OstiaryError
