"""Displays of messages, links, costs and recoveries."""
