"""Proof of advice: take it, run again, compare what it predicted with what is measured."""
