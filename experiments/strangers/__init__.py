"""Models that nobody here wrote: does mcjax work with them?"""
