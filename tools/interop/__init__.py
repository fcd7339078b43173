"""Caches that nobody here wrote, in front of the proxy: until when does each give an old answer?"""
