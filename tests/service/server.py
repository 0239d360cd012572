from tests.server.process import ROOT, address_of, fails_to_start, serving, start, wait

__all__ = ["ROOT", "address_of", "fails_to_start", "serving", "start", "wait"]
