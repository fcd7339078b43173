"""The sandbox: a stand-in for the C42 API, with sample events, for trying things out and for tests."""
