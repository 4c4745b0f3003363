"""Logins where people keep them, through the command: which place is used, and what is said of those that cannot be."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
