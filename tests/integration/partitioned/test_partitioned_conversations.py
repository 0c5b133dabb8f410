"""Listing, reading, renaming and deleting, in tables that are split by user."""

from tests.integration.test_conversations import *
