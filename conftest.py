"""The plugin that makes tests of claims."""

pytest_plugins = ["bnlab.plugin"]
