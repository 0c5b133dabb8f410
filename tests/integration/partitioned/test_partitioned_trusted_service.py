"""Trusted services, in tables that are split by user."""

from tests.integration.test_trusted_service import *
