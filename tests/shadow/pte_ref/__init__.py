"""The specification, helper by helper and race by race."""
