"""`sluice status` and `sluice explain`: what a running gateway is doing, and what it would do."""

import argparse
import asyncio
import json
import sys
import time
import urllib.error
import urllib.request

from sluice.cli.commands import Subcommands, command
from sluice.config import GatewayConfig

TIMEOUT = 5.0
MAX_STATUS = 16 << 20
