#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replayed.py URI TRACE.json - reads all that a trace (overlaybd trace show --json --reads) names."""
import json
import sys

import nbd

client = nbd.NBD()
client.connect_uri(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as trace:
    for read in json.load(trace)["list"]:
        client.pread(read["sectors"] * 512, read["lba"] * 512)
client.shutdown()
