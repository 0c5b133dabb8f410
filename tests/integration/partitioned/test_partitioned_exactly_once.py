"""Idempotency keys, in tables that are split by user."""

from tests.integration.test_exactly_once import *
