#!/usr/bin/python3
"""Encodings of a few messages by Google's protobuf, for tests/unit/proto/test_msg.c.

    protoc --python_out=/tmp -I proto proto/muster.proto && PYTHONPATH=/tmp messages.py
"""
import muster_pb2 as pb


def show(name, m):
    print("%s %s" % (name, m.SerializeToString(deterministic=True).hex()))


show("lease_ask", pb.LeaseAsk(newest_version=-1, oldest_version=300, max=7))
show("beat", pb.Beat(head_version=5, roster_seq=1 << 40, is_done=True, dropped=[1, 2**64 - 1]))
show("refused", pb.Refused(code=3, text="not known: \u00e9"))
show("roster", pb.Roster(seq=2, entry=[
    pb.RosterEntry(node=b"\1" * 32, transport=b"\2" * 32, owner=b"\3" * 32, role=4,
                   endpoint="tcp://h:1"),
    pb.RosterEntry(node=b"\4" * 32, transport=b"\5" * 32, owner=b"\6" * 32, role=3,
                   is_revoked=True)]))
show("submit", pb.Submit(unit=12, lease=34, version=2, task=b"\1" * 32, weights=b"\2" * 32,
                         numerics="f32-1", prompt=b"\7\0\0\0", root=b"\3" * 32, opening=b"\4" * 32, sample=[
                             pb.Sample(tokens=b"\1\0\0\0", logprobs=b"\0\0\0\xbf", mask=b"\1",
                                       reward=0.5, finish=1),
                             pb.Sample(reward=-0.0, finish=3)]))
show("opening", pb.Opening(unit=12, lease=34, proofs=b"\5" * 258, states=b"\6" * 32))
show("batch", pb.Batch(batch=1, root=b"\1" * 32, envelope=[b"one", b"two"]))
show("envelope", pb.Envelope(protocol=1, kind=10, run=b"\1" * 32, idem=b"\2" * 16, body=b"\x18\1"))
